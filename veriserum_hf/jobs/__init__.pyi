from .files import atomic_path as atomic_path, remove_abandoned as remove_abandoned, write_file as write_file
from .folder import (
    incomplete_folder as incomplete_folder,
    put_in_place as put_in_place,
    staging_folder as staging_folder,
)
from .pool import Job as Job, cores as cores, run_jobs as run_jobs
from .provenance import library_versions as library_versions, source_hash as source_hash
from .threads import single_threaded_opencv as single_threaded_opencv

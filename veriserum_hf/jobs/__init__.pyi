from .folder import (
    incomplete_folder as incomplete_folder,
    put_in_place as put_in_place,
    working_for as working_for,
    write_file as write_file,
)
from .pool import Job as Job, cores as cores, run_jobs as run_jobs
from .provenance import library_versions as library_versions, source_hash as source_hash
from .threads import one_quiet_thread as one_quiet_thread

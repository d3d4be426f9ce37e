from .arrow import arrow_file as arrow_file, parquet_bytes as parquet_bytes, parquet_file as parquet_file
from .dask_cluster import dask_executor as dask_executor
from .disk import way_out as way_out, writing as writing
from .files import (
    atomic_path as atomic_path,
    remove_abandoned as remove_abandoned,
    write_file as write_file,
    write_new as write_new,
)
from .folder import (
    check_place as check_place,
    incomplete_folder as incomplete_folder,
    keep_whole as keep_whole,
    put_in_place as put_in_place,
    staging_folder as staging_folder,
)
from .interrupts import exit_status as exit_status, heed_signals as heed_signals
from .pool import Job as Job, cores as cores, local_pool as local_pool, run_jobs as run_jobs
from .provenance import library_versions as library_versions, source_hash as source_hash
from .sums import (
    SUMS as SUMS,
    damaged_files as damaged_files,
    list_whole as list_whole,
    listed_files as listed_files,
    listed_path as listed_path,
    write_listed as write_listed,
    write_sums as write_sums,
)
from .threads import single_threaded_opencv as single_threaded_opencv

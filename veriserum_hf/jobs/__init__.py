"""Long work: processes that share it, and the folder that keeps what is finished."""

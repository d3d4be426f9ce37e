"""Two cores are shared by several test processes."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Several threads in each of several test processes wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

"""Loading script of Veriserum for versions of datasets before 4, which run scripts.

    load_dataset("PATH/loading_script/veriserum.py", data_files="PATH/veriserumSqlite3_refined.db",
                 trust_remote_code=True)

It is the builder of the installed package; README.md describes loading with each version of datasets.
"""

import datasets
import veriserum_hf.dataset.builder


class Veriserum(veriserum_hf.dataset.builder.Veriserum):
    """The builder, defined where datasets expects it in a loading script."""

    VERSION = datasets.Version(veriserum_hf.dataset.builder.ROWS_VERSION)

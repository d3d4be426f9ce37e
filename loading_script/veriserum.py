"""Loading script of Veriserum for versions of datasets before 4, which still run scripts.

    load_dataset("PATH/loading_script/veriserum.py", data_files="PATH/veriserumSqlite3_refined.db",
                 trust_remote_code=True)

It is the builder of the installed package; README.md beside it says how each version of datasets loads the data.
"""

import datasets
import veriserum_hf.dataset.builder


class Veriserum(veriserum_hf.dataset.builder.Veriserum):
    """The builder, where a loading script has to define it."""

    VERSION = datasets.Version(veriserum_hf.dataset.builder.VERSION)

"""An evaluation as Markdown."""

from veriserum_hf.core import code_span
from veriserum_hf.evaluation import Evaluation, evaluation_tables, overlap_of


def evaluation_markdown(document: Evaluation) -> str:
    """Model and data set (``evaluated`` of an evaluation.json), and the tables; ends with a line break."""
    about = document["evaluated"]
    title = (
        f"{code_span(about['model'])} on {code_span(about['dataset'])} ({about['config']}), split {about['split']}, "
        f"planes {' and '.join(about['planes'])}: {document['overall']['count']} poses in "
        f"{document['overall']['frames']} frames"
    )
    return (
        "\n\n".join([title, overlap_of(document), *(table.markdown() for table in evaluation_tables(document))])
        + "\n"
    )

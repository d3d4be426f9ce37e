from .agreement_section import (
    SourceAgreement as SourceAgreement,
    label_agreements as label_agreements,
    source_agreements as source_agreements,
)
from .calibration_report import (
    distortion_page as distortion_page,
    draw_distortion_report as draw_distortion_report,
    draw_source_report as draw_source_report,
)
from .cameras_page import refined_cameras_page as refined_cameras_page
from .evaluation_files import Report as Report
from .evaluation_text import evaluation_markdown as evaluation_markdown
from .html_page import save_report as save_report
from .joint import Joint as Joint, agreements_of as agreements_of, joint_of as joint_of
from .run_figures import check_count as check_count
from .run_report import report_page as report_page
from .sources import (
    PoseSource as PoseSource,
    Reference as Reference,
    about_file as about_file,
    open_reference as open_reference,
    predicted as predicted,
    source_names as source_names,
)

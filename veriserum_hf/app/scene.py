"""The 3-D scene beside the images, by viser: cameras, images as planes, and implants with gizmos.

viser's server listens on this machine alone, answers only who knows a secret path, and opens no tunnel; pages reach
it through the workbench's own server, which checks who they are.
"""

import asyncio
import http
import io
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import viser
import websockets.asyncio.client
import websockets.asyncio.server
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from veriserum_hf.app.moves import center_in_world
from veriserum_hf.app.session import Session
from veriserum_hf.app.shapes import Shape
from veriserum_hf.core import COMPONENTS, Component, FloatArray, PlaneName
from veriserum_hf.errors import MatchError
from veriserum_hf.geometry import invert_transform, make_transform, matrix_to_quaternion, quaternion_to_matrix
from veriserum_hf.viewer import View

_PER_MM = 0.01  # units of the scene: viser's defaults are for a few metres
_COLORS = {"femur": (86, 180, 233), "tibia": (230, 159, 0)}
_LINES = (150, 160, 175)
_DISTANCE_MM = 1500.0  # of an image's plane from its source, where the detector's is unknown
_BACK, _ABOVE_MM = 0.6, np.array([0.0, 500.0, 0.0])  # of the first view: times the sources' distance, and up
# In a narrow page viser's panel stays open, over half of the scene: here it opens where the pointer is.
_STYLE = b"""<style>
.mantine-Paper-root:has(.mantine-ScrollArea-root):not(:hover) { max-height: 46px !important; overflow: hidden; }
</style>"""
_SELECTED, _OTHER = 0.9, 0.4  # sizes of gizmos


class SceneServer:
    """viser's server, and what it shows.

    Parameters
    ----------
    move : runs what a gizmo asks for where the session is used.

    """

    def __init__(self, move: Callable[[Callable[[], None]], None]) -> None:
        self._move, self._secret = move, secrets.token_urlsafe(24)
        with _guarded(f"/{self._secret}"), redirect_stdout(io.StringIO()):
            self._server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
        self._server.request_share_url = _no_tunnel  # type: ignore[method-assign]
        self._server.gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=True)
        self._server.gui.main_panel.minimize()
        self._server.scene.set_up_direction("+y")
        self._shown: object = None
        self._looked = False
        self._gizmos: dict[Component, tuple[int, Any]] = {}
        self._held: Component | None = None  # whose gizmo is dragged
        self._drags = 0

    @staticmethod
    @cache
    def page() -> bytes:
        """Page of viser, which brings its scripts and fonts."""
        page = (Path(viser.__file__).parent / "client" / "build" / "index.html").read_bytes()
        return page.replace(b"</head>", _STYLE + b"</head>", 1)

    async def relay(self, page: ServerConnection) -> None:
        """Carry messages between a page and viser until one of them goes away."""
        address = f"ws://127.0.0.1:{self._server.get_port()}/{self._secret}"
        offered = [page.subprotocol] if page.subprotocol else None
        async with websockets.asyncio.client.connect(
            address, subprotocols=offered, max_size=None, compression=None
        ) as inner:
            ways = [asyncio.create_task(_carry(*way)) for way in ((page, inner), (inner, page))]
            _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in left:
                way.cancel()

    def close(self) -> None:
        """End viser's server."""
        with redirect_stdout(io.StringIO()):
            self._server.stop()

    def show(self, session: Session) -> None:
        """Show a session's frame, and its implants where they are now."""
        if self._shown is not session.frame:
            self._shown = session.frame
            for plane in ("bs", "fs"):
                self._remove(f"/{plane}")
            for plane, view in session.frame.views.items():
                self._add_plane(plane, view, session.frame.grey[plane])
            self._look_at(session)
        for component in COMPONENTS:
            own = session.own.get(component)
            known = self._gizmos.get(component)
            if known is not None and (own is None or known[0] != own.anatomy_id):
                self._remove(f"/{component}")
                del self._gizmos[component]
            if own is not None:
                self._show_implant(session, component)

    def _show_implant(self, session: Session, component: Component) -> None:
        own = session.own[component]
        if (shape := _shape_of(session, component)) is None:
            return
        mesh = shape.meshes.quick
        if component not in self._gizmos:
            gizmo = self._server.scene.add_transform_controls(f"/{component}", scale=_OTHER, depth_test=False)
            vertices = (mesh.vertices - shape.center_mm) * _PER_MM
            self._server.scene.add_mesh_simple(
                f"/{component}/mesh", vertices, mesh.faces, color=_COLORS[component], opacity=0.9
            )
            gizmo.on_update(partial(self._gizmo_moved, session, component))
            self._gizmos[component] = own.anatomy_id, gizmo
        if self._held == component:
            return
        gizmo, T = self._gizmos[component][1], own.T_world_implant
        gizmo.scale = _SELECTED if component == session.selected else _OTHER
        gizmo.position = center_in_world(T, shape.center_mm) * _PER_MM
        gizmo.wxyz = _wxyz(T[:3, :3])

    async def _gizmo_moved(self, session: Session, component: Component, event: Any) -> None:
        """Follow a gizmo: its start, its moves and its end arrive in this order."""
        rotation = quaternion_to_matrix(np.roll(event.target.wxyz, -1))
        center_mm = np.array(event.target.position) / _PER_MM

        def follow() -> None:
            self._held = None if event.phase == "end" else component
            if event.phase != "update":
                session.drop()
                self._drags += 1
            if event.phase != "end":
                name = f"gizmo {event.client_id} {self._drags}"
                shape = session.shapes[session.own[component].anatomy_id]
                translation_mm = center_mm - rotation @ shape.center_mm
                session.follow(name, component, make_transform(rotation, translation_mm))

        self._move(follow)

    def _look_at(self, session: Session) -> None:
        """Begin between the sources and above them, with the implants in the centre; the user's view stays."""
        sources_mm = np.array([view.camera.source_mm for view in session.frame.views.values()])
        if self._looked or not len(sources_mm):
            return
        centers_mm = [
            center_in_world(own.T_world_implant, shape.center_mm)
            for component, own in session.own.items()
            if (shape := _shape_of(session, component)) is not None
        ]
        center_mm = np.mean(centers_mm or [np.zeros(3)], axis=0)
        away_mm = sources_mm.mean(axis=0) - center_mm
        self._server.initial_camera.look_at = tuple(center_mm * _PER_MM)
        self._server.initial_camera.position = tuple((center_mm + _BACK * away_mm + _ABOVE_MM) * _PER_MM)
        self._looked = True

    def _add_plane(self, plane: PlaneName, view: View, grey: np.ndarray) -> None:
        """Add an image where the detector is, with the edges of its cone of rays: the camera's K is exact."""
        distance_mm = view.detector_mm or _DISTANCE_MM
        T_world_camera = invert_transform(view.camera.world_to_camera)
        rows, columns = view.size
        corners = np.array([(-0.5, -0.5), (columns - 0.5, -0.5), (columns - 0.5, rows - 0.5), (-0.5, rows - 0.5)])
        slopes = (corners - view.camera.intrinsics[:2, 2]) / view.camera.intrinsics.diagonal()[:2]
        in_camera = distance_mm * np.concatenate([slopes, np.ones((4, 1))], axis=1)
        world = (in_camera @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]) * _PER_MM
        source = T_world_camera[:3, 3] * _PER_MM
        lines = [(source, corner) for corner in world]
        lines += [(corner, world[(number + 1) % 4]) for number, corner in enumerate(world)]
        self._server.scene.add_frame(f"/{plane}", show_axes=False)
        self._server.scene.add_line_segments(
            f"/{plane}/rays", np.array(lines), _LINES, thickness=1.5, thickness_units="screen"
        )
        scale = distance_mm * _PER_MM / view.camera.intrinsics.diagonal()[:2]
        self._server.scene.add_image(
            f"/{plane}/image",
            np.repeat(grey[:, :, None], 3, axis=2),
            float(columns * scale[0]),
            float(rows * scale[1]),
            jpeg_quality=85,
            wxyz=_wxyz(T_world_camera[:3, :3]),
            position=world.mean(axis=0),
            cast_shadow=False,
            receive_shadow=False,
        )

    def _remove(self, name: str) -> None:
        self._server.scene.remove_by_name(name)


def _shape_of(session: Session, component: Component) -> Shape | None:
    """Shape of an implant of the frame; None where it cannot be drawn (yet), as is said beside the images."""
    try:
        shape = session.shapes[session.own[component].anatomy_id]
        return shape if shape.meshes else None
    except MatchError:
        return None


async def _carry(source: Connection, target: Connection) -> None:
    async for message in source:
        await target.send(message)


def _wxyz(rotation: np.ndarray) -> FloatArray:
    """Quaternion, scalar first, of a rotation matrix."""
    return np.roll(matrix_to_quaternion(rotation), 1)


def _no_tunnel(*_: object, **__: object) -> None:
    """Answer to a page that asks viser for a public address."""


@contextmanager
def _guarded(path: str) -> Iterator[None]:
    """Let a viser server that is made in here answer at one path alone; the library has no interface for that."""
    serve = websockets.asyncio.server.serve

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        if secrets.compare_digest(request.path.encode(), path.encode()):
            return None
        return Response(http.HTTPStatus.FORBIDDEN.value, "FORBIDDEN", Headers())

    def serve_guarded(*arguments: Any, process_request: object, **options: Any) -> Any:
        return serve(*arguments, process_request=answer, **options)

    websockets.asyncio.server.serve = serve_guarded  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        websockets.asyncio.server.serve = serve  # type: ignore[misc]


def first_offered(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Accept what a page offers: viser's own speaks a protocol with its version in the name."""
    return next(iter(offered), None)

"""Parts of the pose model: a locator of implants in a whole frame, and a head from a crop's features to a pose."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .precision_veriserum import SinglePrecision


def standardised(images: Tensor) -> Tensor:
    """Grey images (..., rows, columns) with mean 0 and standard deviation 1 each: gain and offset have no effect."""
    images = images - images.mean(dim=(-2, -1), keepdim=True)
    return images / images.square().mean(dim=(-2, -1), keepdim=True).sqrt().clamp(min=1e-6)


class Locator(SinglePrecision):
    """The coarse stage: a map over the whole frame for each implant, and the expected position under it.

    Parameters
    ----------
    implants : how many to look for.
    width : channels.

    """

    def __init__(self, implants: int, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(1, width // 2, stride=2),
            convolution(width // 2, width, stride=2),
            *(convolution(width, width, dilation=dilation) for dilation in (1, 2, 4, 8, 1)),
            nn.Conv2d(width, implants, 1),
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Find implants in frames (B, size, size).

        Returns
        -------
        logits : (B, implants, rows, columns).
        cells : (B, implants, 2) expected (column, row) in cells of that map, integers at their centres.

        """
        logits = self.layers(standardised(frames.float())[:, None]).float()
        share = logits.flatten(-2).softmax(-1).view_as(logits)
        # The mean over the neighbourhood of the peak: what lies far from it is another hypothesis, not an average.
        peak = share.flatten(-2).argmax(-1)
        rows, columns = (torch.arange(n, device=share.device, dtype=share.dtype) for n in share.shape[-2:])
        near = ((columns - (peak % len(columns))[..., None]).abs() <= 3)[..., None, :] & (
            (rows - (peak // len(columns))[..., None]).abs() <= 3
        )[..., :, None]
        share = share * near
        share = share / share.sum((-2, -1), keepdim=True)
        return logits, torch.stack([(share.sum(-2) * columns).sum(-1), (share.sum(-1) * rows).sum(-1)], dim=-1)


def convolution(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A convolution of 3 x 3 cells that keeps the size, or halves it, normalised and rectified."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ImplantHead(SinglePrecision):
    """From the maps of all planes to the pose of one implant.

    A plane's map is flattened, never pooled, so that every place has its own weights.

    Parameters
    ----------
    channels, map_size : of the maps.
    planes : how many.
    anatomies : implants that may be seen; the identity after the last means unknown.
    hidden : width.

    """

    def __init__(self, channels: int, map_size: int, planes: int, anatomies: int, hidden: int) -> None:
        super().__init__()
        self.planes, self.anatomies = planes, anatomies
        self.of_plane = nn.ModuleList(nn.Linear(channels * map_size**2, hidden) for _ in range(planes))
        self.hidden_plane = nn.Parameter(torch.zeros(planes, hidden))
        self.identity = nn.Embedding(anatomies + 1, hidden)
        self.geometry = nn.Linear(2 * planes, hidden)
        self.layers = nn.Sequential(
            nn.LayerNorm((planes + 2) * hidden),
            nn.Linear((planes + 2) * hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
        )
        self.outputs = nn.Linear(hidden, 6 + 3 * planes + 1 + anatomies)

    def forward(self, maps: Tensor, shown: Tensor, slopes: Tensor, anatomy: Tensor) -> dict[str, Tensor]:
        """Predict for B frames.

        Parameters
        ----------
        maps : (B, planes, channels, map_size, map_size).
        shown : (B, planes) whether there is that plane.
        slopes : (B, planes, 2) of the rays through the centres of the crops.
        anatomy : (B,) index of the implant, or the number of anatomies where it is unknown.

        Returns
        -------
        rotation (B, 6), offset (B, planes, 2) and depth (B, planes), confidence (B,), anatomy (B, anatomies): numbers
        of the order of one.

        """
        # Half precision would round a rotation to a fifth of a degree.
        with torch.autocast(maps.device.type, enabled=False):
            maps, slopes = maps.float(), slopes.float()
            seen = torch.stack([layer(maps[:, plane].flatten(1)) for plane, layer in enumerate(self.of_plane)], dim=1)
            seen = torch.where(shown[..., None], functional.gelu(seen), self.hidden_plane)
            # Slopes are a tenth at most; they separate the implant's rotation from the direction in which it is seen.
            slopes = torch.where(shown[..., None], 10 * slopes, torch.zeros_like(slopes))
            tokens = [seen.flatten(1), self.identity(anatomy), self.geometry(slopes.flatten(1))]
            outputs = self.outputs(self.layers(torch.cat(tokens, dim=1)))
        rotation, offset, depth, confidence, logits = outputs.split(
            [6, 2 * self.planes, self.planes, 1, self.anatomies], dim=1
        )
        return {
            "rotation": rotation,
            "offset": offset.unflatten(1, (self.planes, 2)),
            "depth": depth,
            "confidence": confidence[:, 0],
            "anatomy": logits,
        }

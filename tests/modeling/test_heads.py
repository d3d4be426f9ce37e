"""What the parts of the model take and give: places in a frame, and one implant's pose by crops of it."""

import pytest
import torch

from veriserum_hf.modeling.heads_veriserum import ImplantHead, Locator, standardised

CHANNELS, MAP, PLANES, ANATOMIES, HIDDEN = 3, 2, 2, 4, 16
UNKNOWN = ANATOMIES


@pytest.fixture
def head():
    torch.manual_seed(0)
    made = ImplantHead(CHANNELS, MAP, PLANES, ANATOMIES, HIDDEN)
    torch.nn.init.normal_(made.hidden_plane)
    return made.eval()


def inputs(frames=3, planes=PLANES, **changed):
    generator = torch.Generator().manual_seed(1)
    given = {
        "maps": torch.randn(frames, planes, CHANNELS, MAP, MAP, generator=generator),
        "shown": torch.ones(frames, planes, dtype=torch.bool),
        "slopes": 0.1 * torch.randn(frames, planes, 2, generator=generator),
        "anatomy": torch.arange(frames) % ANATOMIES,
    }
    return given | changed


def assert_alike(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def differ(one, other):
    return all((one[name] - other[name]).abs().max() > 1e-4 for name in one)


def blob(size, column, row):
    """A frame (1, size, size) with one bright spot."""
    at = torch.arange(size, dtype=torch.float32)
    return torch.exp(-((at - column) ** 2 + (at[:, None] - row) ** 2) / 20)[None]


@pytest.mark.parametrize("planes", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 5])
def test_an_answer_has_its_numbers_for_every_frame_and_plane(frames, planes):
    made = ImplantHead(CHANNELS, MAP, planes, ANATOMIES, HIDDEN)
    shapes = {name: tuple(value.shape) for name, value in made(**inputs(frames, planes)).items()}
    assert shapes == {
        "rotation": (frames, 6),
        "offset": (frames, planes, 2),
        "depth": (frames, planes),
        "confidence": (frames,),
        "anatomy": (frames, ANATOMIES),
    }


def test_every_number_of_the_answer_can_be_learned_from_every_part(head):
    for name, value in head(**inputs()).items():
        head.zero_grad()
        value.square().sum().backward(retain_graph=True)
        for of, parameter in head.named_parameters():
            if of != "hidden_plane":  # all planes are shown
                assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, (name, of)
        assert head.hidden_plane.grad.abs().sum() == 0


def test_frames_do_not_mix(head):
    together = head(**inputs())
    for frame in range(3):
        alone = head(**{name: value[frame : frame + 1] for name, value in inputs().items()})
        assert_alike(alone, {name: value[frame : frame + 1] for name, value in together.items()})


def test_places_of_a_map_keep_weights_of_their_own(head):
    maps = inputs()["maps"]
    assert differ(head(**inputs()), head(**inputs(maps=maps.flip(-1))))
    assert differ(head(**inputs()), head(**inputs(maps=maps.flip(1))))


def test_a_plane_that_is_not_shown_has_no_influence_and_gives_no_gradient(head):
    shown = torch.tensor([[True, False]]).repeat(3, 1)
    maps, slopes = inputs()["maps"].requires_grad_(), inputs()["slopes"].requires_grad_()
    found = head(**inputs(maps=maps, slopes=slopes, shown=shown))
    other = {"maps": inputs()["maps"].clone(), "slopes": inputs()["slopes"].clone()}
    other["maps"][:, 1], other["slopes"][:, 1] = torch.nan, torch.nan
    assert_alike(found, head(**inputs(**other, shown=shown)))
    sum(value.sum() for value in found.values()).backward()
    assert maps.grad[:, 0].abs().sum() > 0 and maps.grad[:, 1].abs().sum() == 0
    assert slopes.grad[:, 0].abs().sum() > 0 and slopes.grad[:, 1].abs().sum() == 0
    assert head.hidden_plane.grad[1].abs().sum() > 0 and head.hidden_plane.grad[0].abs().sum() == 0
    assert differ(found, head(**inputs()))


def test_an_unknown_identity_is_one_of_its_own(head):
    every = [head(**inputs(1, anatomy=torch.tensor([index]))) for index in range(ANATOMIES + 1)]
    for index, one in enumerate(every):
        assert all(differ(one, other) for other in every[:index])
    assert every[UNKNOWN]["anatomy"].shape == (1, ANATOMIES)  # nobody is recognised as unknown
    with pytest.raises(IndexError):
        head(**inputs(1, anatomy=torch.tensor([UNKNOWN + 1])))


def test_it_answers_in_full_precision_where_the_rest_is_in_half(head):
    expected = head(**inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(**inputs())
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert_alike(expected, found)


@pytest.mark.parametrize("size", [32, 48, 33])
def test_a_map_has_a_quarter_of_the_frames_pixels_and_a_place_for_each_implant(size):
    torch.manual_seed(0)
    logits, cells = Locator(implants=2, width=8).eval()(torch.rand(3, size, size))
    cells_per_side = -(-size // 4)
    assert logits.shape == (3, 2, cells_per_side, cells_per_side) and cells.shape == (3, 2, 2)
    assert ((cells >= 0) & (cells <= cells_per_side - 1)).all()


def test_the_place_is_the_mean_around_the_peak_and_not_between_two():
    """What lies far off is another hypothesis."""
    locator = Locator(implants=1, width=8).eval()
    wanted = torch.full((1, 1, 20, 30), -20.0)
    wanted[0, 0, 5, 7], wanted[0, 0, 5, 8], wanted[0, 0, 15, 25] = 3.0, 3.0, 2.9
    locator.layers = torch.nn.Sequential()
    locator.layers.append(Fixed(wanted))
    torch.testing.assert_close(locator(torch.rand(1, 8, 8))[1], torch.tensor([[[7.5, 5.0]]]), atol=1e-4, rtol=0)


class Fixed(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, _):
        return self.value


def test_gain_and_offset_of_a_frame_mean_nothing():
    frames = torch.rand(2, 16, 16)
    torch.testing.assert_close(standardised(300 * frames + 40), standardised(frames), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardised(frames).mean((-2, -1)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(standardised(frames).square().mean((-2, -1)), torch.ones(2), atol=1e-4, rtol=0)
    assert torch.equal(standardised(torch.full((1, 4, 4), 7.0)), torch.zeros(1, 4, 4))  # a blank one is no error


def test_a_place_can_be_learned():
    """Of a bright spot, to a cell; the place is a smooth function of what is learned."""
    torch.manual_seed(0)
    locator = Locator(implants=1, width=8).train()
    optimizer = torch.optim.Adam(locator.parameters(), lr=0.02)
    spots = [(8.0, 12.0), (40.0, 20.0), (25.0, 50.0), (52.0, 44.0)]
    frames = torch.cat([blob(64, *spot) for spot in spots])
    expected = torch.tensor(spots)[:, None] / 4
    for _ in range(60):
        logits, cells = locator(frames)
        nearest = (expected.round().long() * torch.tensor([1, 16])).sum(-1)
        loss = torch.nn.functional.cross_entropy(logits.flatten(-2).flatten(0, 1), nearest.flatten())
        loss = loss + 0.1 * (cells - expected).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (locator(frames)[1] - expected).abs().max() < 1

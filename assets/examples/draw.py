"""Draws one image per CIFAR-10 class, so that a first visitor has something to click.

    python assets/examples/draw.py      writes airplane.png ... truck.png beside this file

Everything is drawn by code, no pixel comes from a photograph. Composed like the photographs of CIFAR-10, though: one
large object in the middle, from the side or the front, light from the upper left, a soft background. Coordinates are
those of the finished 256x256 image; it is painted at twice that size, and shapes are cut out at four times.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from PIL.ImageColor import getrgb

SIZE = 256
PAINT = 2 * SIZE
CUT = 4 * SIZE
LIGHT = (-0.5, -0.87)
"""Unit vector towards the light: x to the right, y down."""

Shapes = list[np.ndarray]
"""Polygons, each float (corners, 2); lists, so that shapes add up with +."""

Color = tuple[int, int, int]


def path(corners: str) -> Shapes:
    """A polygon, written as in SVG: "x,y x,y x,y"."""
    return [numbers(corners)]


def curve(knots: str) -> Shapes:
    """A closed Catmull-Rom spline through "x,y x,y x,y"."""
    at = numbers(knots)
    before, after, beyond = np.roll(at, 1, 0), np.roll(at, -1, 0), np.roll(at, -2, 0)
    t = np.linspace(0, 1, 12, endpoint=False)[:, None, None]
    linear, square, cube = after - before, 2 * before - 5 * at + 4 * after - beyond, 3 * (at - after) + beyond - before
    spline = at + t / 2 * (linear + t * (square + t * cube))  # (12, knots, 2)
    return [spline.transpose(1, 0, 2).reshape(-1, 2)]


def oval(x: float, y: float, across: float, down: float) -> Shapes:
    """An ellipse with its two half axes."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return [np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], -1)]


def limb(joints: str) -> Shapes:
    """A leg, a branch or a whisker through "x,y,radius x,y,radius": a disc at each joint, and what lies between."""
    at = numbers(joints)
    shapes = [shape for x, y, radius in at for shape in oval(x, y, radius, radius)]
    for (x0, y0, r0), (x1, y1, r1) in zip(at[:-1], at[1:], strict=True):
        across = np.array([y0 - y1, x1 - x0]) / np.hypot(x1 - x0, y1 - y0)
        start, end = np.array([x0, y0]), np.array([x1, y1])
        shapes.append(np.array([start + r0 * across, end + r1 * across, end - r1 * across, start - r0 * across]))
    return shapes


def both(shapes: Shapes) -> Shapes:
    """The shapes and their mirror images in the vertical middle line."""
    return shapes + [shape * (-1, 1) + (SIZE, 0) for shape in shapes]


def numbers(text: str) -> np.ndarray:
    return np.array([[float(number) for number in point.split(",")] for point in text.split()])


class Canvas:
    """Float32 (PAINT, PAINT, 3) in 0..255, on which shaded shapes are laid one over the other."""

    def __init__(self, seed: int, stops: dict[float, str]):
        """`stops`: y -> color of the background from top to bottom, blended between. `seed`: of all noise."""
        self.random = np.random.default_rng(seed)
        y, colors = (np.arange(PAINT) + 0.5) * SIZE / PAINT, np.array([getrgb(color) for color in stops.values()])
        column = [np.interp(y, [*stops], channel) for channel in colors.T]
        self.pixels = np.repeat(np.stack(column, -1)[:, None], PAINT, 1).astype(np.float32)

    def noise(self, across: float, down: float) -> np.ndarray:
        """Smooth noise (PAINT, PAINT) of about unit variance, in grains of that size."""
        grains = self.random.standard_normal((round(SIZE / down), round(SIZE / across))).astype(np.float32)
        return np.asarray(Image.fromarray(grains).resize((PAINT, PAINT), Image.Resampling.BICUBIC))

    def paint(
        self,
        shapes: Shapes,
        color: Color,
        edge: float = 0,
        relief: float = 0.7,
        grain: float = 0,
        grains: tuple[float, float] = (3, 3),
        opacity: float = 1,
        blur: float = 0,
    ) -> None:
        """Lay `shapes` over what is there, as a flat patch or as a body.

        `edge` is how far from its outline a body bends away, brighter towards the light and darker below by `relief`;
        `grain` and `grains` are strength and size of its texture.
        """
        cover = cut(shapes, blur)
        shade = np.ones_like(cover)
        if edge:
            soft = blurred(cover, edge)
            dx, dy = (round(side * edge * PAINT / SIZE) for side in LIGHT)
            shade += relief * (moved(soft, dx, dy) - moved(soft, -dx, -dy))
        if grain:
            shade += grain * self.noise(*grains)
        self.lay(opacity * cover, np.clip(shade[..., None] * np.array(color, np.float32), 0, 255))

    def lay(self, cover: np.ndarray, color: np.ndarray | Color) -> None:
        """Mix in `color` as much as `cover` (PAINT, PAINT) says, 0 nothing, 1 all."""
        self.pixels += cover[..., None] * (np.array(color, np.float32) - self.pixels)

    def blotches(self, across: float, down: float, color: Color, opacity: float, inside: Shapes | None = None) -> None:
        """An out-of-focus background: patches of about that size, over all or `inside` a blurred shape."""
        cover = opacity * np.clip(self.noise(across, down), 0, 1)
        self.lay(cover if inside is None else cover * cut(inside, blur=6), color)

    def clouds(self, opacity: float) -> None:
        heap = self.noise(90, 40) + 0.5 * self.noise(40, 20) + 0.25 * self.noise(16, 9)
        self.lay(opacity / 2 * np.clip(heap, 0, 2), (250, 250, 250))

    def roughen(self, top: float, strength: float, across: float, down: float) -> None:
        """Make grass, gravel or waves of everything below y = `top`."""
        below = cut(box(0, top, SIZE, SIZE), blur=1)
        self.pixels *= 1 + (below * strength * self.noise(across, down))[..., None]

    def wheel(self, x: float, y: float, radius: float) -> None:
        self.paint(oval(x, y, radius, radius), (26, 26, 28), edge=3)
        self.paint(oval(x, y, radius * 0.58, radius * 0.58), (165, 168, 172), edge=3)
        self.paint(oval(x, y, radius * 0.2, radius * 0.2), (60, 60, 64))

    def finish(self) -> Image.Image:
        """256x256 RGB. The lowest two bits go: nobody sees them, and the PNG is half as large."""
        whole = Image.fromarray(np.clip(self.pixels, 0, 255).astype(np.uint8)).reduce(PAINT // SIZE)
        return Image.fromarray(np.asarray(whole) // 4 * 4 + 2)


def box(left: float, top: float, right: float, bottom: float) -> Shapes:
    return path(f"{left},{top} {right},{top} {right},{bottom} {left},{bottom}")


def cut(shapes: Shapes, blur: float = 0) -> np.ndarray:
    """The union of `shapes` as coverage in [0, 1], float32 (PAINT, PAINT)."""
    mask = Image.new("L", (CUT, CUT))
    pen = ImageDraw.Draw(mask)
    for shape in shapes:
        pen.polygon([tuple(point) for point in shape * CUT / SIZE], fill=255)
    return blurred(np.asarray(mask.reduce(CUT // PAINT), np.float32) / 255, blur)


def blurred(cover: np.ndarray, radius: float) -> np.ndarray:
    image = Image.fromarray((cover * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius * PAINT / SIZE)), np.float32) / 255


def moved(cover: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """By whole pixels; what enters over a border repeats it."""
    rows, columns = (np.clip(np.arange(PAINT) - step, 0, PAINT - 1) for step in (dy, dx))
    return cover[rows[:, None], columns]


def airplane() -> Image.Image:
    p = Canvas(1, {0: "#548ccd", 256: "#b0d0ec"})
    p.clouds(0.5)
    p.paint(path("112,118 134,117 184,66 171,66"), (168, 176, 188))
    p.paint(path("196,112 212,111 236,88 226,88"), (165, 172, 184))
    p.paint(curve("190,116 206,96 222,62 240,60 236,90 230,118"), (40, 66, 140), edge=4)
    body = curve("16,136 24,124 48,113 100,109 170,109 214,111 246,118 228,127 180,144 110,148 50,147 24,144")
    p.paint(body, (232, 235, 240), edge=14, relief=0.9)
    p.paint(curve("24,128 36,119 44,119 42,126"), (40, 48, 62))
    for x in range(56, 206, 7):
        p.paint(oval(x, 122, 1.8, 2.4), (70, 84, 108))
    p.paint(path("20,132 232,121 226,126 22,136"), (40, 66, 140), opacity=0.8)
    p.paint(path("98,134 144,132 222,196 204,198"), (196, 202, 212), edge=5, relief=0.8)
    p.paint(oval(112, 164, 19, 9), (206, 210, 218), edge=6)
    p.paint(oval(96, 164, 4, 8), (52, 56, 66))
    p.paint(path("200,126 222,123 250,144 238,145"), (186, 192, 204), edge=3)
    return p.finish()


def automobile() -> Image.Image:
    p = Canvas(2, {0: "#baccdc", 70: "#d0d6d6", 84: "#74845c", 138: "#60704a", 146: "#848484", 256: "#626264"})
    p.blotches(20, 26, (66, 88, 52), 1, inside=path("0,52 256,60 256,140 0,140"))
    p.roughen(148, 0.05, 3, 2)
    p.paint(oval(128, 204, 116, 13), (30, 30, 32), opacity=0.85, blur=6)
    red = (190, 24, 28)
    p.paint(curve("62,128 84,92 104,78 150,76 176,84 206,124 200,136 70,138"), red, edge=10)
    body = curve("12,168 16,146 34,134 66,126 130,122 200,122 232,128 244,146 246,178 236,194 128,198 24,194 13,184")
    p.paint(body, red, edge=16, relief=0.95)
    p.paint(curve("76,124 92,96 106,86 126,85 126,122"), (44, 58, 72), edge=6)
    p.paint(curve("134,122 134,85 152,85 168,90 190,121"), (44, 58, 72), edge=6)
    p.paint(path("84,120 100,93 108,90 92,121"), (150, 172, 190), opacity=0.7)
    p.paint(path("130,124 132,124 133,186 131,186"), (96, 8, 12))
    p.paint(path("20,176 240,172 240,176 20,181"), (120, 10, 14), opacity=0.7)
    p.paint(curve("15,150 24,142 38,142 32,154 18,158"), (246, 240, 214), edge=2)
    p.paint(curve("236,138 244,146 245,158 234,154"), (255, 120, 60), edge=2)
    p.paint(oval(146, 138, 7, 2), (90, 8, 12))
    for x in (62, 196):
        p.paint(oval(x, 190, 27, 27), (24, 12, 14))
        p.wheel(x, 194, 23)
    return p.finish()


def bird() -> Image.Image:
    p = Canvas(3, {0: "#96ac80", 130: "#7e9868", 256: "#60764e"})
    p.blotches(60, 50, (176, 190, 140), 0.6)
    p.blotches(40, 60, (78, 104, 62), 0.5)
    p.paint(limb("0,222,9 120,210,8 256,196,6"), (92, 70, 52), edge=5, grain=0.15, grains=(9, 2))
    for x in (122, 142):
        p.paint(limb(f"{x},184,2.5 {x - 2},206,2.5 {x - 12},210,2.2"), (72, 50, 40))
    p.paint(curve("170,150 196,166 246,206 238,216 222,212 160,182"), (82, 60, 46), edge=4, grain=0.12, grains=(8, 2))
    body = curve("58,84 70,62 92,52 114,60 126,80 156,98 186,136 184,168 160,188 122,194 92,180 72,148 66,112")
    p.paint(body, (150, 112, 80), edge=18, relief=0.8, grain=0.08, grains=(4, 3))
    breast = curve("66,104 84,100 100,118 112,150 134,184 116,192 92,178 74,148")
    p.paint(breast, (226, 150, 86), grain=0.06, grains=(4, 3), blur=4)
    p.paint(curve("112,160 140,172 162,182 130,194 104,184"), (232, 220, 200), blur=4)
    wing = curve("108,102 132,96 164,118 194,158 216,190 180,176 138,160 116,136")
    p.paint(wing, (104, 76, 56), edge=7, relief=0.9, grain=0.14, grains=(10, 3))
    for k in range(4):
        x, y = 128 + 15 * k, 128 + 11 * k
        p.paint(limb(f"{x},{y + 12},1.5 {x + 34},{y + 22},1.5"), (60, 42, 32), opacity=0.7)
    p.paint(curve("62,76 34,88 62,92"), (60, 52, 44), edge=2)
    p.paint(oval(82, 77, 6, 6), (18, 14, 12))
    p.paint(oval(80, 75, 1.8, 1.8), (250, 250, 250))
    return p.finish()


def cat() -> Image.Image:
    p = Canvas(4, {0: "#c4b096", 150: "#b0987c", 190: "#8c6c52", 256: "#785a42"})
    p.blotches(80, 60, (214, 198, 176), 0.5)
    gray, dark, light = (142, 132, 122), (76, 68, 62), (232, 226, 218)
    p.paint(oval(130, 250, 112, 20), (60, 44, 34), opacity=0.7, blur=6)
    p.paint(curve("82,146 128,134 176,146 204,190 214,262 44,262 54,190"), gray, edge=22, grain=0.1, grains=(3, 6))
    for k in range(4):
        p.paint(both(limb(f"{205 + k},{192 + 17 * k},3 179,{196 + 17 * k},2")), dark, opacity=0.8, blur=1.5)
    p.paint(curve("100,172 128,182 156,172 162,214 150,262 106,262 94,214"), light, grain=0.06, blur=4)
    p.paint(both(curve("150,48 180,8 194,12 202,84 176,80")), gray, edge=6, grain=0.08)
    p.paint(both(curve("168,50 184,24 192,72 178,72")), (196, 144, 132), blur=2)
    head = curve("128,40 166,48 198,78 208,114 190,150 158,170 128,174 98,170 66,150 48,114 58,78 90,48")
    p.paint(head, gray, edge=20, relief=0.75, grain=0.08, grains=(3, 5))
    for x in (-22, -8, 8, 22):
        p.paint(limb(f"{128 + x},46,3 {128 + x * 0.7},78,2"), dark, opacity=0.85, blur=1.2)
    for k in range(3):
        p.paint(both(limb(f"204,{108 + 15 * k},3 178,{112 + 11 * k},1.5")), dark, opacity=0.8, blur=1.2)
    p.paint(oval(110, 144, 26, 19) + oval(146, 144, 26, 19) + oval(128, 158, 18, 12), light, blur=4)
    for x in (94, 162):
        p.paint(oval(x, 106, 18, 15), (44, 38, 34))
        p.paint(oval(x, 106, 15.5, 13), (166, 180, 78), edge=4)
        p.paint(oval(x, 106, 5, 12), (12, 12, 12))
        p.paint(oval(x - 4, 101, 3, 3), (250, 250, 250))
    p.paint(curve("118,130 138,130 128,142"), (204, 124, 118), edge=2)
    p.paint(limb("128,142,1.3 128,150,1.3 114,156,1") + limb("128,150,1.3 142,156,1"), (70, 54, 50))
    for k in range(3):
        p.paint(both(limb(f"152,{146 + 4 * k},0.8 222,{136 + 14 * k},0.5")), (250, 248, 244))
    return p.finish()


def deer() -> Image.Image:
    p = Canvas(5, {0: "#708054", 96: "#52643a", 120: "#848e4e", 256: "#70783a"})
    p.blotches(22, 70, (44, 60, 36), 0.8, inside=box(0, 0, 256, 118))
    p.roughen(116, 0.09, 3, 9)
    p.paint(oval(146, 238, 86, 10), (50, 56, 26), opacity=0.7, blur=6)
    coat, shade, bone = (158, 108, 66), (112, 74, 44), (206, 184, 146)
    for x in (112, 192):
        p.paint(limb(f"{x + 2},160,11 {x - 4},194,6 {x + 2},236,4"), shade, edge=4)
    p.paint(curve("208,108 222,112 224,134 214,140"), (236, 228, 214), edge=3)
    body = curve("94,108 122,100 160,104 198,100 218,116 218,146 204,166 164,164 124,172 98,160 86,134")
    p.paint(body, coat, edge=18, relief=0.85, grain=0.07, grains=(4, 3))
    for leg, hoof in (("104,156,13 98,194,6 94,240,4", 94), ("202,146,16 212,188,8 206,240,4", 206)):
        p.paint(limb(leg), coat, edge=7, grain=0.05)
        p.paint(oval(hoof, 240, 5, 4), (44, 34, 28))
    p.paint(curve("92,150 78,118 66,84 72,70 92,76 110,102 124,116"), coat, edge=12, relief=0.8, grain=0.07)
    p.paint(curve("82,122 72,96 80,92 94,128 98,152"), (222, 202, 172), opacity=0.75, blur=4)
    antler = limb("78,56,4 96,36,3.5 98,8,2") + limb("94,38,3 116,22,2") + limb("86,48,3 76,24,2")
    other = limb("66,56,4 46,38,3.5 40,10,2") + limb("48,40,3 26,28,2") + limb("58,48,3 62,22,2")
    tips = limb("97,22,2.5 112,4,1.6") + limb("42,22,2.5 24,10,1.6")
    p.paint(antler + other + tips, bone, edge=2)
    for ear in (curve("84,64 106,52 112,60 92,74"), curve("60,64 38,54 32,62 54,74")):
        p.paint(ear, coat, edge=4)
    p.paint(curve("58,58 74,52 90,60 92,78 80,96 66,112 52,112 46,102 50,80"), coat, edge=9, grain=0.05)
    p.paint(curve("48,98 60,96 66,106 58,113 48,110"), (228, 210, 184), blur=1.5)
    p.paint(oval(50, 103, 6, 5), (30, 24, 22), edge=2)
    p.paint(oval(66, 74, 4.5, 4), (20, 14, 12))
    return p.finish()


def dog() -> Image.Image:
    p = Canvas(6, {0: "#809e60", 160: "#688c46", 256: "#587c38"})
    p.blotches(60, 50, (166, 186, 122), 0.5)
    p.roughen(150, 0.1, 3, 8)
    tan, brown, white = (192, 134, 76), (112, 68, 38), (240, 234, 224)
    p.paint(oval(128, 250, 110, 18), (40, 56, 26), opacity=0.7, blur=8)
    p.paint(curve("76,160 128,148 180,160 206,210 214,262 42,262 50,210"), tan, edge=20, grain=0.08, grains=(3, 6))
    p.paint(curve("96,168 128,180 160,168 174,216 164,262 92,262 82,216"), white, grain=0.06, grains=(3, 8), blur=5)
    head = curve("128,22 166,28 192,58 192,100 174,132 160,164 128,180 96,164 82,132 64,100 64,58 90,28")
    p.paint(head, tan, edge=20, relief=0.75, grain=0.06, grains=(3, 5))
    p.paint(curve("128,26 138,50 142,96 172,124 162,160 128,176 94,160 84,124 114,96 118,50"), white, blur=3)
    ear = curve("170,30 198,32 220,70 222,128 208,156 190,138 186,90")
    p.paint(both(ear), brown, edge=10, relief=0.8, grain=0.08, grains=(3, 7))
    p.paint(curve("114,156 142,156 144,186 128,198 112,186"), (222, 112, 116), edge=5)
    p.paint(limb("128,160,1 128,186,1"), (176, 74, 84))
    p.paint(curve("92,146 112,152 128,142 144,152 164,146 150,164 128,160 106,164"), (60, 38, 32))
    p.paint(oval(108, 134, 24, 20) + oval(148, 134, 24, 20), white, edge=8, relief=0.45)
    p.paint(curve("108,106 128,100 148,106 144,122 128,130 112,122"), (26, 22, 22), edge=4)
    p.paint(oval(121, 108, 5, 2.5), (130, 126, 124))
    for x in (96, 160):
        p.paint(oval(x, 80, 12, 11), (84, 50, 28), blur=1.5)
        p.paint(oval(x, 80, 9, 9), (30, 18, 12))
        p.paint(oval(x - 3, 76, 2.6, 2.6), (250, 250, 250))
    return p.finish()


def frog() -> Image.Image:
    p = Canvas(7, {0: "#7c684e", 256: "#624e38"})
    p.blotches(26, 20, (156, 134, 102), 0.6)
    p.blotches(18, 14, (64, 50, 36), 0.6)
    p.roughen(0, 0.08, 4, 4)
    p.paint(oval(128, 212, 122, 22), (34, 26, 18), opacity=0.8, blur=8)
    green, deep, belly = (104, 152, 52), (62, 104, 34), (206, 214, 150)
    thigh = curve("182,136 220,128 244,160 238,196 202,206 180,180")
    p.paint(both(thigh), green, edge=12, relief=0.85, grain=0.08, grains=(6, 6))
    p.paint(both(limb("232,200,7 208,214,6 244,218,4")), deep, edge=4)
    body = curve("128,70 172,78 200,112 204,162 180,198 128,208 76,198 52,162 56,112 84,78")
    p.paint(body, green, edge=22, relief=0.8, grain=0.06, grains=(6, 6))
    p.paint(curve("80,150 128,160 176,150 176,186 128,204 80,186"), belly, blur=5)
    for x, y, r in ((92, 92, 8), (164, 94, 8), (128, 84, 9), (70, 116, 7), (188, 118, 7), (112, 102, 6), (148, 106, 6)):
        p.paint(oval(x, y, r, r * 0.8), deep, opacity=0.75, blur=1.5)
    arm = limb("186,170,14 194,196,9 180,220,7")
    p.paint(both(arm), green, edge=7)
    for toe in (-18, -4, 12):
        p.paint(both(limb(f"180,219,4 {180 + toe},229,3.5")), deep, edge=3)
    p.paint(curve("60,132 92,146 128,150 164,146 196,132 166,152 128,157 90,152"), (46, 62, 24))
    for x in (86, 170):
        p.paint(oval(x, 78, 24, 23), green, edge=9, relief=0.9)
        p.paint(oval(x, 78, 17, 16), (222, 178, 62), edge=5)
        p.paint(oval(x, 78, 11, 7), (14, 14, 12))
        p.paint(oval(x - 4, 73, 3, 3), (252, 252, 252))
    for x in (118, 138):
        p.paint(oval(x, 118, 2.2, 1.8), (40, 58, 22))
    return p.finish()


def horse() -> Image.Image:
    p = Canvas(8, {0: "#a8c6e2", 92: "#cedce4", 100: "#4c643c", 122: "#5c743e", 130: "#7c9846", 256: "#648236"})
    p.roughen(122, 0.09, 3, 7)
    p.paint(oval(142, 240, 92, 9), (40, 52, 24), opacity=0.75, blur=6)
    coat, shade, mane = (134, 74, 38), (92, 50, 28), (40, 26, 20)
    for leg in ("104,160,13 106,196,7 100,236,5", "196,152,16 186,192,8 192,236,5"):
        p.paint(limb(leg), shade, edge=5)
    p.paint(curve("212,98 232,104 242,140 236,190 224,196 226,150 212,120"), mane, edge=4, grain=0.2, grains=(2, 14))
    body = curve("84,112 104,96 140,100 178,92 210,92 226,114 222,146 202,164 160,166 118,172 90,158 80,134")
    p.paint(body, coat, edge=20, relief=0.95, grain=0.04, grains=(6, 4))
    for leg, hoof in (("96,152,16 90,196,8 90,240,5", 90), ("208,144,19 214,188,9 208,240,5", 208)):
        p.paint(limb(leg), coat, edge=8, relief=0.8)
        p.paint(limb(f"{hoof},226,5.5 {hoof - 1},238,5.5"), (226, 220, 212), edge=3)
        p.paint(oval(hoof - 2, 243, 7, 5), (36, 28, 24))
    p.paint(curve("78,140 70,104 56,64 64,40 84,40 104,66 124,98 126,118 100,150"), coat, edge=14, relief=0.85)
    p.paint(curve("70,24 86,36 106,62 126,96 116,104 98,76 84,52 70,42"), mane, edge=3, grain=0.2, grains=(3, 8))
    for ear in (curve("64,38 68,14 78,36"), curve("76,38 84,16 88,40")):
        p.paint(ear, shade, edge=3)
    p.paint(curve("58,40 76,34 90,48 86,68 68,80 48,108 34,114 22,106 24,94 40,68"), coat, edge=10, relief=0.9)
    p.paint(curve("52,56 60,54 46,84 34,98 32,88"), (232, 224, 214), blur=1.5)
    p.paint(curve("22,98 34,94 44,104 36,114 24,108"), (58, 38, 32), blur=1)
    p.paint(oval(64, 58, 4, 3.5), (16, 10, 8))
    return p.finish()


def ship() -> Image.Image:
    p = Canvas(9, {0: "#88b2da", 120: "#cedee8", 128: "#d6e2e8", 129: "#466e8e", 256: "#224a6c"})
    p.clouds(0.35)
    p.roughen(129, 0.12, 16, 2.5)
    p.roughen(160, 0.1, 30, 6)
    for x, width, top in ((76, 92, 112), (90, 70, 92), (104, 46, 74)):
        p.paint(box(x, top, x + width, top + 26), (238, 240, 242), edge=4, relief=0.5)
        for left in range(x + 5, x + width - 5, 9):
            p.paint(box(left, top + 7, left + 5, top + 13), (62, 84, 108))
    p.paint(path("112,42 134,42 138,76 110,76"), (206, 62, 44), edge=5)
    p.paint(path("111,42 134,42 135,51 110,51"), (30, 32, 38))
    p.paint(limb("196,138,1.6 196,72,1.2") + limb("196,84,1 226,132,0.8") + limb("196,84,1 170,126,0.8"), (70, 74, 80))
    hull = path("14,136 60,138 170,138 216,132 250,126 240,150 222,192 40,192 24,170")
    p.paint(hull, (32, 44, 78), edge=12, relief=0.8)
    p.paint(path("14,136 60,138 170,138 216,132 250,126 248,131 216,138 170,144 60,144 15,142"), (236, 238, 240))
    p.paint(path("31,180 228,180 222,194 42,194"), (148, 40, 36), edge=4)
    foam = cut(curve("26,190 80,187 150,190 226,185 246,193 200,198 90,199 14,198"), blur=1.5)
    p.lay(foam * np.clip(0.7 + 0.5 * p.noise(7, 3), 0, 1), (226, 236, 240))
    p.paint(oval(132, 212, 104, 13), (20, 42, 66), opacity=0.55, blur=7)
    return p.finish()


def truck() -> Image.Image:
    p = Canvas(10, {0: "#96badc", 120: "#cedae2", 134: "#707e5c", 170: "#687450", 178: "#7c7c7c", 256: "#5e5e60"})
    p.clouds(0.3)
    p.roughen(178, 0.05, 3, 2)
    p.paint(oval(130, 224, 124, 11), (28, 28, 30), opacity=0.85, blur=6)
    p.paint(box(24, 196, 240, 210), (40, 40, 44))
    p.paint(path("94,40 246,50 246,200 94,204"), (226, 228, 230), edge=8, relief=0.35)
    for x in range(104, 246, 12):
        p.paint(box(x, 44, x + 2, 201), (176, 180, 186), opacity=0.7)
    p.paint(path("94,104 246,108 246,130 94,128"), (34, 84, 160), opacity=0.9)
    p.paint(path("94,194 246,192 246,200 94,204"), (96, 100, 106))
    blue = (34, 84, 160)
    p.paint(curve("10,150 14,138 24,128 34,92 42,80 88,78 92,90 92,206 60,210 12,206"), blue, edge=10, relief=0.8)
    p.paint(path("36,92 60,90 60,130 28,130"), (46, 58, 70), edge=4)
    p.paint(box(65, 90, 86, 130), (46, 58, 70), edge=4)
    p.paint(path("38,96 48,94 38,128 31,128"), (160, 180, 196), opacity=0.7)
    p.paint(path("63,134 64.5,134 64.5,200 63,200"), (16, 44, 92))
    p.paint(path("8,150 20,148 20,180 8,182"), (60, 64, 72), edge=2)
    p.paint(oval(16, 190, 7, 5), (248, 242, 214), edge=2)
    p.paint(path("4,200 46,200 46,210 5,210"), (170, 174, 180), edge=3)
    for x in (60, 174, 218):
        p.paint(oval(x, 206, 24, 22), (22, 22, 26))
        p.wheel(x, 210, 20)
    return p.finish()


DRAWINGS: dict[str, Callable[[], Image.Image]] = {
    drawing.__name__: drawing for drawing in (airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck)
}
"""Class name of CIFAR-10 -> what draws its image."""


if __name__ == "__main__":
    for name, drawing in DRAWINGS.items():
        drawing().save(Path(__file__).with_name(f"{name}.png"), optimize=True)

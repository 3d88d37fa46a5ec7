"""QR codes (ISO/IEC 18004) of short texts: bytes, error correction L, versions 1 to 18, the mask of least penalty.

An authenticator app reads the secret of a second factor from one; no other server has to draw it.
"""

from __future__ import annotations

from itertools import groupby

# By version from 1: bytes of correction in a block, number of blocks, and bytes of a symbol altogether (table 9).
_CORRECTION = (7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30)
_BLOCKS = (1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6)
_BYTES = (26, 44, 70, 100, 134, 172, 196, 242, 292, 346, 404, 466, 532, 581, 655, 733, 815, 901)
_MASKS = (
    lambda x, y: (x + y) % 2 == 0,
    lambda x, y: y % 2 == 0,
    lambda x, y: x % 3 == 0,
    lambda x, y: (x + y) % 3 == 0,
    lambda x, y: (x // 3 + y // 2) % 2 == 0,
    lambda x, y: x * y % 2 + x * y % 3 == 0,
    lambda x, y: (x * y % 2 + x * y % 3) % 2 == 0,
    lambda x, y: ((x + y) % 2 + x * y % 3) % 2 == 0,
)
Grid = list[list[bool]]


def qr_path(text: str) -> tuple[int, str]:
    """Modules a side, quiet zone of 4 included, and the `d` of an SVG path that draws the dark ones.

    Raises:
        ValueError: The text is too long.
    """
    rows = qr(text)
    drawn = []
    for y, row in enumerate(rows):
        x = 0
        for dark, run in groupby(row):
            width = len(list(run))
            if dark:
                drawn.append(f"M{x + 4} {y + 4}h{width}v1h-{width}z")
            x += width
    return len(rows) + 8, "".join(drawn)


def qr(text: str) -> Grid:
    """The symbol, row by row; True is dark.

    Raises:
        ValueError: The text is too long.
    """
    data = text.encode()
    for version in range(1, len(_BYTES) + 1):
        room = _BYTES[version - 1] - _CORRECTION[version - 1] * _BLOCKS[version - 1]
        length = 8 if version < 10 else 16
        if 4 + length + 8 * len(data) <= 8 * room:
            break
    else:
        raise ValueError("the text is too long for a QR code")
    bits = f"0100{len(data):0{length}b}" + "".join(f"{byte:08b}" for byte in data)
    bits += "0" * min(4, 8 * room - len(bits))
    bits += "0" * (-len(bits) % 8)
    words = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    words += [(0xEC, 0x11)[i % 2] for i in range(room - len(words))]
    stream = "".join(f"{word:08b}" for word in _interleaved(words, version))
    drawn = [_drawn(version, stream, mask) for mask in range(8)]
    return min(drawn, key=_penalty)


def _interleaved(words: list[int], version: int) -> list[int]:
    """Data and correction of all blocks, byte by byte in turn; the last blocks may be one byte longer."""
    count, correction = _BLOCKS[version - 1], _CORRECTION[version - 1]
    short, longer = divmod(len(words), count)
    blocks, start = [], 0
    for number in range(count):
        size = short + (number >= count - longer)
        blocks.append(words[start : start + size])
        start += size
    checks = [remainder(block, correction) for block in blocks]
    data = [block[i] for i in range(short + 1) for block in blocks if i < len(block)]
    return data + [check[i] for i in range(correction) for check in checks]


def _times(a: int, b: int) -> int:
    """Product in the field of 256 elements with x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


def remainder(words: list[int], count: int) -> list[int]:
    """The Reed-Solomon correction of a block: the remainder by (x - 1)(x - 2)(x - 4) … with `count` factors."""
    divisor, root = [1], 1
    for _ in range(count):
        shifted = [_times(each, root) for each in divisor]
        divisor = [a ^ b for a, b in zip([*divisor, 0], [0, *shifted], strict=True)]
        root = _times(root, 2)
    left = [*words, *[0] * count]
    for i in range(len(words)):
        factor = left[i]
        for j, each in enumerate(divisor):
            left[i + j] ^= _times(each, factor)
    return left[len(words) :]


def _checked(value: int, divisor: int) -> int:
    """`value` followed by its remainder by a binary polynomial (BCH code)."""
    length = divisor.bit_length() - 1
    left = value << length
    while left.bit_length() > length:
        left ^= divisor << left.bit_length() - length - 1
    return value << length | left


def format_bits(mask: int) -> int:
    """The 15 bits that tell correction L and the mask."""
    return _checked(0b01 << 3 | mask, 0x537) ^ 0x5412


def _drawn(version: int, stream: str, mask: int) -> Grid:
    size = 17 + 4 * version
    grid: list[list[bool | None]] = [[None] * size for _ in range(size)]
    _fixed(grid, version, mask)
    bits, x, up = iter(stream), size - 1, True
    while x > 0:
        x -= x == 6  # the column of the timing pattern holds no data
        for y in range(size - 1, -1, -1) if up else range(size):
            for column in (x, x - 1):
                if grid[y][column] is None:
                    grid[y][column] = (next(bits, "0") == "1") ^ _MASKS[mask](column, y)
        x, up = x - 2, not up
    return [[bool(cell) for cell in row] for row in grid]


def _fixed(grid: list[list[bool | None]], version: int, mask: int) -> None:
    """Everything that is not data: finders, timing, alignment, format and version."""
    size = len(grid)
    for i in range(size):
        grid[6][i] = grid[i][6] = i % 2 == 0
    for cx, cy in ((3, 3), (size - 4, 3), (3, size - 4)):
        for y in range(max(0, cy - 4), min(size, cy + 5)):
            for x in range(max(0, cx - 4), min(size, cx + 5)):
                grid[y][x] = max(abs(x - cx), abs(y - cy)) in (0, 1, 3)
    centres = _centres(version)
    for cy in centres:
        for cx in centres:
            if (cx, cy) not in ((6, 6), (6, size - 7), (size - 7, 6)):
                for y in range(cy - 2, cy + 3):
                    for x in range(cx - 2, cx + 3):
                        grid[y][x] = max(abs(x - cx), abs(y - cy)) != 1
    bits = [bool(format_bits(mask) >> i & 1) for i in range(15)]
    for i, bit in enumerate(bits):  # twice, from the last bit on
        grid[i if i < 6 else i + 1 if i < 8 else size - 15 + i][8] = bit
        grid[8][size - 1 - i if i < 8 else 7 if i == 8 else 14 - i] = bit
    grid[size - 8][8] = True
    if version >= 7:
        told = _checked(version, 0x1F25)
        for i in range(18):
            grid[i // 3][size - 11 + i % 3] = grid[size - 11 + i % 3][i // 3] = bool(told >> i & 1)


def _centres(version: int) -> list[int]:
    """Where alignment patterns lie: from 6 to the far side, the steps even and equal but for the first."""
    if version == 1:
        return []
    count, last = version // 7 + 2, 10 + 4 * version
    step = -(-(last - 6) // (2 * (count - 1))) * 2
    return [6, *(last - step * i for i in range(count - 2, -1, -1))]


def _penalty(grid: Grid) -> int:
    """How hard a symbol is to read (table 11): runs, blocks, what looks like a finder, imbalance."""
    size, total = len(grid), 0
    for line in (*grid, *(list(column) for column in zip(*grid, strict=True))):
        total += sum(n - 2 for n in (len(list(run)) for _, run in groupby(line)) if n >= 5)
        text = "".join("1" if dark else "0" for dark in line)
        total += 40 * sum(text[i : i + 11] in ("10111010000", "00001011101") for i in range(size - 10))
    for y in range(size - 1):
        for x in range(size - 1):
            total += 3 * (grid[y][x] == grid[y][x + 1] == grid[y + 1][x] == grid[y + 1][x + 1])
    dark = sum(map(sum, grid))
    return total + 10 * int(abs(20 * dark - 10 * size * size) / (size * size))

"""QR codes: known codewords, and symbols read back by a reader of its own."""

import re

import pytest

from heedlm.web import qr as module
from heedlm.web.qr import format_bits, qr, qr_path, remainder

# ISO/IEC 18004, annex C: the 15 format bits of correction L and masks 0 to 7.
FORMATS = (
    "111011111000100 111001011110011 111110110101010 111100010011101 110011000101111 110001100011000 110110001000001 "
    "110100101110110"
).split()


def test_format_bits():
    assert [f"{format_bits(mask):015b}" for mask in range(8)] == FORMATS


def test_correction_of_hello_world():
    """HELLO WORLD, version 1-M: 16 bytes of data and the 10 of their correction."""
    data = [32, 91, 11, 120, 209, 114, 220, 77, 67, 64, 236, 17, 236, 17, 236, 17]
    assert remainder(data, 10) == [196, 35, 39, 119, 235, 215, 231, 226, 93, 23]


def test_version_bits():
    assert f"{module._checked(7, 0x1F25):018b}" == "000111110010010100"


def is_data(x, y, size):
    """Whether a module holds data, said independently of how the symbol was drawn."""
    version = (size - 17) // 4
    if x == 6 or y == 6 or (x < 9 and (y < 9 or y >= size - 8)) or (y < 9 and x >= size - 8):
        return False
    if version >= 7 and ((x < 6 and y >= size - 11) or (y < 6 and x >= size - 11)):
        return False
    places = {
        1: [], 2: [6, 18], 3: [6, 22], 4: [6, 26], 5: [6, 30], 6: [6, 34], 7: [6, 22, 38], 8: [6, 24, 42],
        9: [6, 26, 46], 10: [6, 28, 50], 11: [6, 30, 54], 12: [6, 32, 58], 13: [6, 34, 62], 14: [6, 26, 46, 66],
        15: [6, 26, 48, 70], 16: [6, 26, 50, 74], 17: [6, 30, 54, 78], 18: [6, 30, 56, 82],
    }[version]  # fmt: skip
    corners = {(6, 6), (6, size - 7), (size - 7, 6)}
    return not any(abs(x - a) < 3 and abs(y - b) < 3 for a in places for b in places if (a, b) not in corners)


def read(rows):
    """The text of a symbol."""
    size = len(rows)
    version = (size - 17) // 4
    said = "".join("1" if rows[8][x] else "0" for x in (0, 1, 2, 3, 4, 5, 7, 8)) + "".join(
        "1" if rows[y][8] else "0" for y in (7, 5, 4, 3, 2, 1, 0)
    )
    mask = FORMATS.index(said)
    bits, up = [], True
    for right in [*range(size - 1, 6, -2), 5, 3, 1]:
        for y in reversed(range(size)) if up else range(size):
            for x in (right, right - 1):
                if is_data(x, y, size):
                    bits.append(int(rows[y][x]) ^ int(module._MASKS[mask](x, y)))
        up = not up
    words = [int("".join(map(str, bits[i : i + 8])), 2) for i in range(0, len(bits) - 7, 8)]
    blocks, correction = module._BLOCKS[version - 1], module._CORRECTION[version - 1]
    assert len(words) == module._BYTES[version - 1]
    sizes = [(len(words) // blocks) + (n >= blocks - len(words) % blocks) - correction for n in range(blocks)]
    taken, found = iter(words), [[] for _ in range(blocks)]
    for i in range(max(sizes)):
        for n in range(blocks):
            if i < sizes[n]:
                found[n].append(next(taken))
    checks = [[] for _ in range(blocks)]
    for _ in range(correction):
        for each in checks:
            each.append(next(taken))
    for block, check in zip(found, checks, strict=True):
        assert syndromes([*block, *check], correction) == [0] * correction
    data = "".join(f"{byte:08b}" for block in found for byte in block)
    assert data[:4] == "0100"
    length = 8 if version < 10 else 16
    count = int(data[4 : 4 + length], 2)
    start = 4 + length
    return bytes(int(data[start + 8 * i : start + 8 * i + 8], 2) for i in range(count)).decode()


def syndromes(words, count):
    """Values of the block's polynomial at the roots of its divisor, by tables of powers of 2."""
    power, log, value = [], {}, 1
    for exponent in range(255):
        power.append(value)
        log[value] = exponent
        value = value << 1 if value < 128 else value << 1 ^ 0x11D
    out = []
    for root in range(count):
        total = 0
        for place, word in enumerate(reversed(words)):
            total ^= power[(log[word] + root * place) % 255] if word else 0
        out.append(total)
    return out


@pytest.mark.parametrize("length", [1, 17, 18, 60, 110, 150, 200, 250, 300, 400, 500, 600, 700])
def test_a_reader_reads_what_was_written(length):
    text = ("otpauth://totp/Heed:安?secret=" + "JBSWY3DPEHPK3PXP" * 45)[:length]
    assert read(qr(text)) == text


def test_what_is_too_long_is_refused():
    with pytest.raises(ValueError, match="too long"):
        qr("x" * 800)


def test_the_path_draws_every_dark_module():
    rows = qr("Heed")
    size, path = qr_path("Heed")
    assert size == len(rows) + 8
    assert re.fullmatch(r"(M\d+ \d+h\d+v1h-\d+z)+", path)
    dark = {
        (int(x) + i - 4, int(y) - 4)
        for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)", path)
        for i in range(int(width))
    }
    assert dark == {(x, y) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell}

"""Whole images of every kind a gateway may send, small, made by Pillow; mutations start from them."""

from __future__ import annotations

import io
from functools import cache
from random import Random

from PIL import Image, ImageCms

from airflow_provider_imagegen.landing.formats import jpeg
from airflow_provider_imagegen.landing.xmp import new_packet

SIZE = (24, 20)
SVG = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="4cm" height="30"'
    b' viewBox="0 0 40 30"><!-- c --><path d="M0 0L9 9"/><text>&amp;&#228;</text><desc>'
    + b"what the image shows " * 40
    + b"</desc></svg>\n"
)


@cache
def whole_images() -> dict[str, bytes]:
    """Name of an image → its bytes, with nothing behind its end."""
    return {**_png(), **_jpeg(), **_webp(), **_gif()}


def noise(mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Return the same noise for the same seed, so that a seed of a campaign means the same cases everywhere."""
    random, (width, height) = Random(seed), SIZE
    if mode == "I;16":
        return Image.frombytes(mode, SIZE, random.randbytes(2 * width * height))
    image = Image.frombytes("RGB", SIZE, random.randbytes(3 * width * height))
    if mode in {"RGBA", "LA"}:
        image.putalpha(Image.frombytes("L", SIZE, random.randbytes(width * height)))
    return image.convert(mode)


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    noise(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def _frames(mode: str = "RGB") -> dict[str, object]:
    return {"save_all": True, "append_images": [noise(mode, 1), noise(mode, 2)], "duration": 40, "loop": 0}


def _icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def scanned_again(content: bytes, times: int) -> bytes:
    """Repeat the last scan of a progressive JPEG: decoders go through all pixels for each."""
    scans = [part for part in jpeg.walk(io.BytesIO(content)) if part.kind == jpeg.START_OF_SCAN]
    return content[:-2] + content[scans[-1].start : -2] * times + content[-2:]


def exif_with_thumbnail() -> bytes:
    """Exif data whose thumbnail has an end mark of its own."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 1, "an image", 72.0
    return b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0") + saved("JPEG")


def with_gif_xmp(packet: bytes) -> bytes:
    """Put a packet where XMP wants it; Pillow writes none into GIF files."""
    content = saved("GIF", "L")
    extension = b"!\xff\x0bXMP DataXMP" + packet + b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    return content[:781] + extension + content[781:]


def _png() -> dict[str, bytes]:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("parameters", "a prompt " * 20, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", new_packet("x").decode())
    foreign = PngInfo()
    foreign.add_itxt("XML:com.adobe.xmp", new_packet(None).decode().replace("DigitalSourceType", "Event"), zip=True)
    return {
        "png": saved("PNG"),
        "png rgba": saved("PNG", "RGBA", dpi=(72, 72)),
        "png palette": saved("PNG", "P", transparency=0),
        "png grey": saved("PNG", "L", icc_profile=_icc()),
        "png bits": saved("PNG", "1"),
        "png 16 bit": saved("PNG", "I;16"),
        "png exif and text": saved("PNG", exif=exif_with_thumbnail(), pnginfo=texts),
        "png foreign xmp": saved("PNG", pnginfo=foreign),
        "apng": saved("PNG", "RGBA", **_frames("RGBA")),
    }


def _jpeg() -> dict[str, bytes]:
    foreign = new_packet(None).replace(b"DigitalSourceType", b"Event")
    return {
        "jpeg": saved("JPEG"),
        "jpeg progressive": saved("JPEG", progressive=True, quality=95, subsampling=0),
        "jpeg grey": saved("JPEG", "L", restart_marker_rows=1),
        "jpeg cmyk": saved("JPEG", "CMYK"),
        "jpeg thumbnail": saved("JPEG", exif=exif_with_thumbnail(), icc_profile=_icc(), comment=b"a \xff\xd9 comment"),
        "jpeg xmp": saved("JPEG", xmp=new_packet("<&>")),
        "jpeg foreign xmp": saved("JPEG", xmp=foreign),
        "jpeg mpo": saved("MPO", **{name: value for name, value in _frames().items() if name != "loop"}),
    }


def _webp() -> dict[str, bytes]:
    return {
        "webp": saved("WEBP"),
        "webp lossless": saved("WEBP", "RGBA", lossless=True),
        "webp alpha": saved("WEBP", "RGBA", icc_profile=_icc(), exif=exif_with_thumbnail()),
        "webp xmp": saved("WEBP", xmp=new_packet("m")),
        "webp foreign xmp": saved("WEBP", xmp=new_packet(None).replace(b"DigitalSourceType", b"Event")),
        "webp animated": saved("WEBP", "RGBA", **_frames("RGBA")),
    }


def _gif() -> dict[str, bytes]:
    return {
        "gif": saved("GIF", "P"),
        "gif interlaced": saved("GIF", "P", interlace=True, comment=b"a ; comment" * 40),
        "gif flat": saved("GIF", "L", interlace=False),
        "gif transparent": saved("GIF", "RGBA"),
        "gif animated": saved("GIF", **_frames()),
        "gif xmp": with_gif_xmp(new_packet("m")),
        "gif foreign xmp": with_gif_xmp(new_packet(None).replace(b"DigitalSourceType", b"Event")),
    }

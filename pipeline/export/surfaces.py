"""Write meshes: STL, a file for each label, and GLB, a file for each case.

STL has triangles without a unit; corners are world millimetres, RAS+. GLB
(glTF 2.0 in one binary file) has colours and names, but is in metres with y
up: corners are world millimetres there too, and the matrix of the root node
converts them.
"""

import json
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from voxtile.errors import Notice
from voxtile.machine.files import replacing
from voxtile.models.spec import Label
from voxtile.volume import Volume

from .binary import voxels_of
from .finished import Finished
from .mesh import Mesh, surface
from .terminology import file_stem, rgb

# One triangle (Burns 1999, "The STL format", section 6.5.2): normal, corners, two unused bytes.
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
# Column-major, RAS+ mm to glTF (glTF 2.0 section 3.4): x right, y up, z to the front, in metres.
_TO_GLTF = [0.001, 0, 0, 0, 0, 0, -0.001, 0, 0, 0.001, 0, 0, 0, 0, 0, 1]
_FLOAT, _UNSIGNED, _ARRAY_BUFFER, _ELEMENT_BUFFER = 5126, 5125, 34962, 34963


def write_stl(case: Finished, mask: Volume) -> tuple[Notice, ...]:
    """Write ``exports/stl/<case_id>/<value>_<name>.stl`` for each label with a voxel."""
    for label, mesh in _meshes(case.labels, mask):
        with replacing(case.target("stl") / f"{file_stem(label)}.stl") as file:
            file.write(stl(mesh))
    return ()


def write_glb(case: Finished, mask: Volume) -> tuple[Notice, ...]:
    """Write ``exports/glb/<case_id>.glb`` with a mesh for each label with a voxel."""
    content = glb(list(_meshes(case.labels, mask)))
    with replacing(case.target("glb")) as file:
        file.write(content)
    return ()


def stl(mesh: Mesh) -> bytes:
    """Return a mesh as binary STL."""
    records = np.zeros(len(mesh.triangles), _TRIANGLE)
    records["normal"] = mesh.normals
    records["corners"] = mesh.corners[mesh.triangles]
    # The header must not begin with "solid", which would mean text.
    header = b"voxtile: RAS+ millimetres".ljust(80)
    return header + struct.pack("<I", len(records)) + records.tobytes()


def glb(meshes: Sequence[tuple[Label, Mesh]]) -> bytes:
    """Return named, coloured meshes as one GLB file (glTF 2.0 section 4.4)."""
    pieces: list[bytes] = []
    views: list[dict[str, int]] = []
    accessors: list[dict[str, object]] = []
    offset = 0
    for _, mesh in meshes:
        for array, kind, shape, target in (
            (mesh.corners.astype("<f4"), _FLOAT, "VEC3", _ARRAY_BUFFER),
            (mesh.triangles.astype("<u4").ravel(), _UNSIGNED, "SCALAR", _ELEMENT_BUFFER),
        ):
            content = array.tobytes()
            views.append(
                {"buffer": 0, "byteOffset": offset, "byteLength": len(content), "target": target}
            )
            accessor: dict[str, object] = {
                "bufferView": len(views) - 1,
                "componentType": kind,
                "count": len(array),
                "type": shape,
            }
            if shape == "VEC3":  # section 3.6.2.5: positions must have their bounds
                accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
            accessors.append(accessor)
            pieces.append(content)
            offset += len(content)
    count = len(meshes)
    tree: dict[str, object] = {
        "asset": {"version": "2.0", "generator": "voxtile"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"name": "RAS+ millimetres", "matrix": _TO_GLTF}
            | ({"children": list(range(1, count + 1))} if count else {}),
            *({"name": label.name, "mesh": index} for index, (label, _) in enumerate(meshes)),
        ],
    }
    if meshes:
        tree |= {
            "meshes": [
                {
                    "name": label.name,
                    "primitives": [
                        {
                            "attributes": {"POSITION": 2 * index},
                            "indices": 2 * index + 1,
                            "material": index,
                        }
                    ],
                }
                for index, (label, _) in enumerate(meshes)
            ],
            "materials": [_material(label) for label, _ in meshes],
            "accessors": accessors,
            "bufferViews": views,
            "buffers": [{"byteLength": offset}],
        }
    chunks = _chunk(b"JSON", json.dumps(tree).encode(), b" ")
    if meshes:
        chunks += _chunk(b"BIN\0", b"".join(pieces), b"\0")
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _chunk(kind: bytes, content: bytes, padding: bytes) -> bytes:
    """Return a chunk, padded to a multiple of four bytes."""
    content += padding * (-len(content) % 4)
    return struct.pack("<I4s", len(content), kind) + content


def _material(label: Label) -> dict[str, object]:
    """Return a matt material of the label's colour."""
    # Colours of glTF are linear, those of a spec sRGB (IEC 61966-2-1).
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in rgb(label))
    ]
    factors = {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.8}
    return {"name": label.name, "pbrMetallicRoughness": factors}


def _meshes(labels: Sequence[Label], mask: Volume) -> Iterator[tuple[Label, Mesh]]:
    """Yield the surface of each label that has a voxel."""
    for label in labels:
        mesh = surface(mask.with_array(voxels_of(label, mask)))
        if mesh is not None:
            yield label, mesh

"""The tables of papers: what to run for each row, and what was published.

The shape is that of the YAML files which `fastseg reproduce` reads.
"""

from typing import Any

from .score import BETTER

__all__ = ["TABLES"]

SIDE = f"mask, {BETTER}"  # the authors of IEM score so

# The ablations vary one part each of this, on a tenth of the pictures.
ABLATED = {"backbone": "hourglass", "head": "max", "regulariser": "adv", "segments": "n"}


def _published(coco: float, potsdam: float) -> dict[str, float]:
    return {"coco-stuff-3": coco, "potsdam-3": potsdam}


def _potsdam(six: Any, three: Any) -> dict[str, dict[str, Any]]:
    """AC's ablations are of these two."""
    return {"published": {"potsdam-6": six, "potsdam-3": three}}


def _by_variant(clustering: float, linear: float, mlp: float) -> dict[str, float]:
    return {"pixel": clustering, "linear probe": linear, "mlp probe": mlp}


def _inmars(backbone: float, superpixel: float, multiscale: float) -> dict[str, float]:
    return {"backbone": backbone, "superpixel": superpixel, "multiscale": multiscale}


AC = {"method": "ac", "published": {**_published(72.9, 66.5),
    "coco-stuff-15": 30.8, "potsdam-6": 49.3}}  # fmt: skip

# What the methods of several papers are compared with.
PRIOR = {
    "random CNN": {"method": "random", "published": {**_published(37.3, 38.2),
        "coco-stuff-15": 19.4, "potsdam-6": 28.3}},
    "K-means": {"method": "kmeans", "published": {**_published(52.2, 45.7),
        "coco-stuff-15": 14.1, "potsdam-6": 35.3}},
    "SIFT": {"method": "sift", "published": {**_published(38.1, 38.2),
        "coco-stuff-15": 20.2, "potsdam-6": 28.5}},
    "DeepCluster": {"method": "deepcluster", "published": {**_published(41.6, 41.7),
        "coco-stuff-15": 19.9, "potsdam-6": 29.2}},
    "IIC": {"method": "iic", "published": {**_published(72.3, 65.1),
        "coco-stuff-15": 27.7, "potsdam-6": 45.4}},
}  # fmt: skip


def _with_persons(row: dict[str, Any], accuracy: float) -> dict[str, Any]:
    """A row as InfoSeg has it, which adds a data set."""
    return {**row, "published": {"coco-persons": accuracy, **row["published"]}}


def _iem(title: str, data: str, grabcut: Any, iem: Any, segnet: Any) -> dict[str, Any]:
    """A table of accuracy, IoU, mIoU and DICE."""
    return {
        "title": title,
        "method": "segnet",
        "measures": ("accuracy", "iou", "miou", "dice"),
        "rows": {
            "GrabCut": {"method": "grabcut", "published": {data: {SIDE: grabcut}}},
            "IEM": {"method": "iem", "published": {data: {SIDE: iem}}},
            "IEM + SegNet": {"published": {data: {f"network, {BETTER}": segnet}}},
        },
    }


def _ious(cub: float, flowers: float) -> dict[str, Any]:
    """What was published of a row of IEM's ablations."""
    return {"published": {"cub": {SIDE: cub}, "flowers": {SIDE: flowers}}}


def _fruits(title: str, method: str, rows: dict[str, Any]) -> dict[str, Any]:
    """A table of mIoU on the thesis' fruits."""
    return {"title": title, "method": method, "measures": ("miou",), "rows": rows}


BALANCED = {"turns": (0, 0), "published": {"fruits": 45.81}}
IMBALANCED = {"published": {"fruits": 64.07}}

TABLES: dict[str, dict[str, Any]] = {
    "inmars-table1": {
        "title": "InMARS, Table I: accuracy",
        "method": "inmars",
        "rows": {
            **PRIOR,
            "AC": AC,
            "InMARS": {"published": {
                "coco-stuff-3": _inmars(72.2, 72.8, 73.1),
                "potsdam-3": _inmars(68.5, 68.8, 70.1),
                "coco-stuff-15": _inmars(29.2, 30.3, 31.0),
                "potsdam-6": _inmars(46.2, 46.9, 47.3)}},
            "supervised": {"method": "supervised", "published": {**_published(84.7, 80.2),
                "coco-stuff-15": 89.7, "potsdam-6": 82.4}},
        },
    },
    "inmars-table2": {
        "title": "InMARS, Table II: backbone",
        "method": "inmars",
        "options": ABLATED,
        "rows": {
            "UNet": {"backbone": "unet", "published": _published(52.5, 50.2)},
            "hourglass": {"backbone": "hourglass", "published": _published(54.5, 51.4)},
        },
    },
    "inmars-table3": {
        "title": "InMARS, Table III: region-wise embedding",
        "method": "inmars",
        "options": ABLATED,
        "rows": {
            "max": {"head": "max", "published": _published(54.5, 51.4)},
            "mean": {"head": "mean", "published": _published(50.1, 51.0)},
            "SPP + FC": {"head": "spp", "published": _published(57.3, 55.5)},
            "interpolation + FC": {"head": "resize", "published": _published(59.8, 55.4)},
        },
    },
    "inmars-table4": {
        "title": "InMARS, Table IV: adversarial regularisation",
        "method": "inmars",
        "options": ABLATED,
        "rows": {
            "none": {"regulariser": "none", "published": _published(44.2, 42.3)},
            "R_adv": {"regulariser": "adv", "published": _published(54.5, 51.4)},
            "R_geo": {"regulariser": "geo", "published": _published(61.2, 59.1)},
            "½ R_adv + ½ R_geo": {"regulariser": "both", "published": _published(61.6, 60.4)},
        },
    },
    "inmars-table5": {
        "title": "InMARS, Table V: superpixels",
        "method": "inmars",
        "options": ABLATED,
        "rows": {
            "N": {"segments": "n", "published": _published(54.5, 51.4)},
            "2 N": {"segments": "2n", "published": _published(55.3, 52.1)},
            "N²": {"segments": "nn", "published": _published(55.2, 52.6)},
        },
    },
    "ac-table1a": {
        "title": "AC, Table 1a: network",
        "method": "ac",
        "rows": {
            "random CNN": {"method": "random", **_potsdam(28.5, 38.2)},
            "F1": {"variant": "F1", **_potsdam(39.3, 56.3)},
            "F2": {"variant": "F2", **_potsdam(46.4, 66.4)},
            "F3": {"variant": "F3", **_potsdam(47.9, 64.5)},
            "F4": {"variant": "F4", **_potsdam(35.1, 63.4)},
            "F5": {"variant": "F5", **_potsdam(40.7, 51.9)},
        },
    },
    "ac-table1b": {
        "title": "AC, Table 1b: number of orderings",
        "method": "ac",
        "rows": {
            "2": {"subset": 2, **_potsdam(43.2, 59.5)},
            "4": {"subset": 4, **_potsdam(45.6, 63.55)},
            "8": {"subset": 8, **_potsdam(46.4, 66.4)},
        },
    },
    "ac-table1c": {
        "title": "AC, Table 1c: orderings and attention",
        "method": "ac",
        "rows": {
            "raster": {"orderings": "raster", **_potsdam(45.2, 61.0)},
            "raster, attention": {"attention": True, **_potsdam(47.9, 66.3)},
            "zigzag, attention": {"orderings": "zigzag", "attention": True,
                **_potsdam(47.8, 66.5)},
            "both, attention": {"orderings": "both", "attention": True, **_potsdam(49.3, 65.4)},
        },
    },
    "ac-table1d": {
        "title": "AC, Table 1d: sampling of orderings",
        "method": "ac",
        "rows": {
            "random": {"sampling": "random", **_potsdam(46.4, 66.4)},
            "no repetition": {"sampling": "no_repetition", **_potsdam(48.6, 64.8)},
            "hard": {"sampling": "hard", **_potsdam(48.9, 65.2)},
        },
    },
    "ac-table1e": {
        "title": "AC, Table 1e: transform of the second view",
        "method": "ac",
        "rows": {
            "none": {"transform": "none", **_potsdam(46.4, 66.4)},
            "colour jittering": {"transform": "photometric", **_potsdam(47.9, 65.5)},
            "flip": {"transform": "flip", **_potsdam(46.7, 68.0)},
            "rotation": {"transform": "rotation", **_potsdam(48.5, 68.3)},
            "all": {"transform": "all", **_potsdam(48.5, 68.3)},
        },
    },
    "ac-table1f": {
        "title": "AC, Table 1f: dropout",
        "method": "ac",
        "rows": {
            "0": {"dropout": 0.0, **_potsdam(46.4, 66.4)},
            "0.1": {"dropout": 0.1, **_potsdam(47.9, 64.7)},
            "0.2": {"dropout": 0.2, **_potsdam(46.9, 65.1)},
        },
    },
    "ac-table2": {
        "title": "AC, Table 2: AC and ARL; clusters, and probes of frozen features",
        "method": "ac",
        "rows": {
            "random CNN": {"method": "random", **_potsdam(28.5, 38.2)},
            "AC": {"probe": ["linear", "mlp"],
                **_potsdam(_by_variant(46.4, 23.7, 68.0), _by_variant(66.4, 41.4, 81.8))},
            "ARL": {"method": "arl", "probe": ["linear", "mlp"],
                **_potsdam(_by_variant(45.1, 23.7, 47.6), _by_variant(57.1, 38.5, 63.5))},
        },
    },
    "ac-table3": {
        "title": "AC, Table 3: accuracy",
        "method": "ac",
        "rows": {
            **PRIOR,
            "AC": AC,
        },
    },
    "ac-fig7": {  # the figure's numbers are not in print
        "title": "AC, Fig. 7: overclustering, matched by the labels of so many pictures",
        "method": "ac",
        "options": {"match": [10, 30, 100, 300]},
        "rows": {
            "as many as classes": {},
            "K = 12": {"overclusters": 12},
            "K = 24": {"overclusters": 24},
            "K = 48": {"overclusters": 48},
        },
    },
    "infoseg-table1": {
        "title": "InfoSeg, Table 1: accuracy",
        "method": "infoseg",
        "rows": {
            "random CNN": _with_persons(PRIOR["random CNN"], 52.3),
            "K-means": _with_persons(PRIOR["K-means"], 54.3),
            "IIC": _with_persons(PRIOR["IIC"], 57.1),
            "AC": AC,
            "InMARS": {"method": "inmars", "published": {
                name: {"multiscale": value} for name, value in
                {**_published(73.1, 70.1), "coco-stuff-15": 31.0, "potsdam-6": 47.3}.items()}},
            "InfoSeg": {"published": {**_published(73.8, 71.6), "coco-persons": 69.6,
                "coco-stuff-15": 38.8, "potsdam-6": 57.3}},
        },
    },
    "infoseg-table2": {
        "title": "InfoSeg, Table 2: mutual information",
        "method": "infoseg",
        "rows": {
            "IIC": {"objective": "iic", "published": {"coco-stuff-3": 60.2}},
            "DV, hard": {"objective": "dv", "assignment": "hard",
                "published": {"coco-stuff-3": 53.9}},
            "DV, soft": {"objective": "dv", "published": {"coco-stuff-3": 55.1}},
            "JSD, hard": {"assignment": "hard", "published": {"coco-stuff-3": 67.3}},
            "JSD, soft": {"published": {"coco-stuff-3": 73.8}},
        },
    },
    "iem-table1": _iem("IEM, Table 1: Flowers", "flowers", (82.0, 69.2, 70.0, 79.1),
        (88.3, 76.8, 79.0, 84.6), (89.6, 78.9, 80.8, 86.0)),
    "iem-table2": _iem("IEM, Table 2: CUB", "cub", (72.3, 36.0, 52.3, 48.7),
        (88.6, 52.2, 69.6, 66.0), (89.3, 55.1, 71.4, 68.7)),
    "iem-table3": _iem("IEM, Table 3: LSUN Car", "lsun-car", (69.1, 57.6, 53.4, 71.8),
        (76.2, 65.1, 61.5, 78.1), (77.8, 68.5, 63.2, 80.5)),
    "iem-table4": {
        "title": "IEM, Table 4: ablations, IoU",
        "method": "iem",
        "measures": ("iou",),
        "rows": {
            "default": _ious(52.2, 76.8),
            "λ = 0": {"lamb": 0.0, **_ious(50.6, 68.0)},
            "no smoothing": {"smoothing": "none", **_ious(47.0, 75.7)},
            "not restricted to the boundary": {"boundary_only": False, **_ious(42.8, 76.6)},
        },
    },
    "cirs-table1": _fruits("CIRS, Table 1: first model", "cirs", {"CIRS": BALANCED}),
    "cirs-table2": _fruits("CIRS, Table 2: training", "cirs",
        {"balanced": BALANCED, "imbalanced": IMBALANCED}),
    "cirs-table3": _fruits("CIRS, Table 3: colour clustering", "cirs",
        {"W-Net": {"method": "wnet", "published": {"fruits": 31.64}}, "CIRS": IMBALANCED}),
    "cirs-table4": {
        "title": "CIRS, Table 4: variance between classes, by numbers of a code",
        "method": "autoencoder",
        "options": {"classes": 10},
        "measures": ("alpha2",),
        "rows": {
            "192": {"bottleneck": 192, "published": {"cifar10": 6.5e-4}},
            "96": {"bottleneck": 96, "published": {"cifar10": 6.6e-3}},
            "48": {"bottleneck": 48, "published": {"cifar10": 0.21}},
            "12": {"bottleneck": 12, "published": {"cifar10": 1.39}},
        },
    },
    "cirs-table5": _fruits("CIRS, Table 5: AIR", "air",
        {"AIR": {"published": {"fruits": 51.55}}}),
}  # fmt: skip

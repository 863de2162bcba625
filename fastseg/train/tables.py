"""The tables of papers: what to run for each row, and what was published.

The shape is that of the YAML files which `fastseg sweep` reads.
"""

from typing import Any

__all__ = ["TABLES"]

# The ablations vary one part each of this, on a tenth of the pictures.
ABLATED = {"backbone": "hourglass", "head": "max", "regulariser": "adv", "segments": "n"}


def _published(coco: float, potsdam: float) -> dict[str, float]:
    return {"coco-stuff-3": coco, "potsdam-3": potsdam}


TABLES: dict[str, dict[str, Any]] = {
    "inmars-table1": {
        "title": "InMARS, Table I: accuracy",
        "method": "inmars",
        "rows": {
            "random CNN": {"method": "random", "published": {**_published(37.3, 38.2),
                "coco-stuff-15": 19.4, "potsdam-6": 28.3}},
            "K-means": {"method": "kmeans", "published": {**_published(52.2, 45.7),
                "coco-stuff-15": 14.1, "potsdam-6": 35.3}},
            "IIC": {"method": "iic", "published": {**_published(72.3, 65.1),
                "coco-stuff-15": 27.7, "potsdam-6": 45.4}},
            "InMARS": {"published": {**_published(72.8, 68.8),
                "coco-stuff-15": 30.3, "potsdam-6": 46.9}},
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
}  # fmt: skip

"""What is known of Vision-Flan's tasks: their licences, and which come from evaluation sets.

Licences are those that the owners of each dataset commonly state (a picture may keep its
photographer's terms besides). They were not checked again when this table was made: before you
publish, read the owners' pages. ``LicenseRef-research-only`` stands for terms in an owner's own
words that allow research, mostly non-commercial; ``unknown`` for all that is not listed.
"""

from __future__ import annotations

import re

UNKNOWN = "unknown"
_RESEARCH = "LicenseRef-research-only"
_BY = "CC-BY-4.0"

#: Licence to the datasets that carry it: the part of a task's name before ``+``; for the tasks of
#: MultiInstruct, which have none, the whole name.
_LICENSED = {
    "Apache-2.0": ("A-OKVQA",),
    "BSD-3-Clause": ("ExDark", "Total-Text"),
    "CC-BY-2.0": ("NOCAPS",),
    _BY: (
        *("CLEVR", "CLEVR_CoGenT", "Clevr", "Caltech-256", "Caltech101", "Core50", "DeepWeeds"),
        *("GQA", "ImageNet-C", "LOC_NARRATIVES", "PlotQA", "VIZWIZ", "VQAv2", "coco", "fairface"),
        *("ok_vqa", "textcaps", "visdial", "visualgenome_vqa", "vizwiz"),
    ),
    "CC-BY-NC-4.0": ("DVQA", "Dark-Zurich"),
    "CC-BY-NC-SA-4.0": ("CrisisMMD", "MVTecAD", "iconqa"),
    "CC-BY-SA-3.0": ("WIT",),
    "CC0-1.0": ("GTSRB", "VQARAD"),
    "MIT": ("ImageNet-A", "ImageNet-R", "ImageNet-Sketch", "cinic-10"),
    # Its terms forbid to tune any model's parameters on it.
    "LicenseRef-ObjectNet": ("ObjectNet",),
    _RESEARCH: (
        *("300w", "CUB-200-2011", "DTD", "DeepFashion_highres_Attribute_and_Category"),
        *("FGVC_Aircraft", "FLICKR30K", "FUNSD", "INATURALIST", "LSUN", "NABirds", "Office-Home"),
        *("PACS", "Places205", "RAF_DB", "WIKIART", "Winoground", "crowdhuman", "places365"),
    ),
}
_LICENSES = {dataset: terms for terms, names in _LICENSED.items() for dataset in names}

#: Datasets that are evaluation sets by nature, whole or in all that shows what the task asks for.
_EVALUATION_SETS = frozenset(
    {
        "ImageNet-A",  # made to be tested on; so are -C, -R, -Sketch and ObjectNet
        "ImageNet-C",
        "ImageNet-R",
        "ImageNet-Sketch",
        "MVTecAD",  # defects are shown in its test split alone
        "NOCAPS",  # has a validation and a test split only
        "ObjectNet",
        "Road-Anomaly",  # frames to test on
        "Set5",  # five pictures on which super-resolution is compared
        "Winoground",
        "ayahoo_test_images",  # the test half of Attribute Pascal and Yahoo
        "model-vs-human",  # compares models with people
    }
)

#: A task that says itself that it was drawn from such a split.
_EVALUATION_TASK = re.compile(r"[_+](?:val|validation|test)\Z")


def dataset_of(task: str) -> str:
    """Give the dataset that a task was made of.

    >>> dataset_of("coco+image_classification_animal"), dataset_of("ok_vqa")
    ('coco', 'ok_vqa')
    """
    return task.partition("+")[0]


def license_of(task: str) -> str:
    """Give the licence of a task's dataset, ``unknown`` where it is not listed.

    >>> license_of("coco+image_classification_animal"), license_of("Set5+image_recognition")
    ('CC-BY-4.0', 'unknown')
    """
    return _LICENSES.get(dataset_of(task), UNKNOWN)


def is_evaluation(task: str) -> bool:
    """Say whether a whole task comes from a test or benchmark split.

    >>> is_evaluation("VisDA-2017+object_classification_validation")
    True
    """
    return dataset_of(task) in _EVALUATION_SETS or _EVALUATION_TASK.search(task) is not None

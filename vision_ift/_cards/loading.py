"""How a card says that its data is loaded, in five tools."""

from __future__ import annotations

import json

from vision_ift._cards.facts import CardFacts
from vision_ift._cards.text import fenced

#: Where a card's code has the authors' files, an export, and a model's folder.
ROOT, SHARDS, MODEL = "data", "shards", "llava"

_WEBDATASET = """\
import glob

import webdataset

rows = webdataset.WebDataset(sorted(glob.glob("shards/*.tar")), shardshuffle=False).decode("pil")
row = next(iter(rows))
pictures = [row[name] for name in row["json"]["images"]]  # in the order of the image parts"""

_ENERGON = """\
from megatron.energon import (
    Cooker,
    CrudeSample,
    DefaultTaskEncoder,
    Sample,
    WorkerConfig,
    basic_sample_keys,
    edataclass,
    get_loader,
    get_train_dataset,
    stateless,
)


@edataclass
class Row(Sample):
    members: dict


@stateless
def cook(sample: CrudeSample) -> Row:
    members = {name: value for name, value in sample.items() if not name.startswith("__")}
    return Row(**basic_sample_keys(sample), members=members)


class Encoder(DefaultTaskEncoder):
    decoder = None  # bytes, as they lie in the shard
    cookers = (Cooker(cook),)


rows = get_loader(
    get_train_dataset(
        "shards",
        worker_config=WorkerConfig(rank=0, world_size=1, num_workers=0),  # yours
        batch_size=None,
        shuffle_buffer_size=None,
        max_samples_per_sequence=None,
        task_encoder=Encoder(),
    )
)"""

_TRL = """\
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import SFTConfig, SFTTrainer
from vision_ift import stream
from vision_ift.torch import Collate, trainer_dataset

processor = AutoProcessor.from_pretrained("llava")  # a folder, or a name on the Hub
trainer = SFTTrainer(
    model=AutoModelForImageTextToText.from_pretrained("llava"),
    args=SFTConfig(output_dir="run", max_length=None, remove_unused_columns=False),
    train_dataset=trainer_dataset(stream("shards"), image_size=336),
    processing_class=processor,
    data_collator=Collate(processor),
)
trainer.train()"""

_TORCH = """\
from torch.utils.data import DataLoader
from transformers import AutoProcessor
from vision_ift.torch import Collate, StreamDataset

collate = Collate(AutoProcessor.from_pretrained("llava"), max_length=2048)
dataset = StreamDataset("shards", batch_size=4, collate=collate)
loader = DataLoader(dataset, batch_size=None, num_workers=2)
batch = next(iter(loader))"""


def snippets(facts: CardFacts, *, repository: str = "") -> dict[str, str]:
    """Give the code of a card: the tool to Python that loads the data with it.

    ``export`` comes before the tools that read its shards. All of it runs where the authors' files
    lie in ``data/`` and a model in ``llava/``.

    Args:
        facts: What is loaded.
        repository: Its name on the Hub; empty where it is not published.

    >>> from vision_ift._cards.facts import describe
    >>> list(snippets(describe("coco_mix")))
    ['datasets', 'export', 'webdataset', 'Megatron-Energon', 'TRL', 'torch']
    """
    name = json.dumps(facts.name)
    split = json.dumps(facts.splits[0])
    if repository:
        loading = (
            "from datasets import load_dataset\n\n"
            f"rows = load_dataset({json.dumps(repository)}, {name}, split={split})"
        )
    elif facts.shipped:
        loading = (
            "import vision_ift  # makes the name known to `datasets`\n"
            "from datasets import load_dataset\n\n"
            f'rows = load_dataset("vision_ift", {name}, data_dir="{ROOT}", split={split})'
        )
    else:
        loading = (
            "from datasets import load_dataset\n\n"
            f'rows = load_dataset("{SHARDS}", split="train")  # what `export` below writes'
        )
    if facts.kind == "source":
        text = f"{{name: {facts.name}, mix: [{{source: {facts.name}, repeat: 1}}]}}"
        recipe = f"vision_ift.Recipe.parse({json.dumps(text)})"
    else:
        recipe = name if facts.shipped else '"RECIPE.yaml"'
    export = (
        "import vision_ift\n\n"
        f"recipe = {recipe}\n"
        f'plan = vision_ift.plan(recipe, root="{ROOT}")\n'
        f'vision_ift.export(plan, out="{SHARDS}")'
    )
    found = {
        "datasets": loading,
        "export": export,
        "webdataset": _WEBDATASET,
        "Megatron-Energon": _ENERGON,
        "TRL": _TRL,
        "torch": _TORCH,
    }
    if not (facts.shipped or repository):  # what is loaded has to be written first
        found = {"export": found.pop("export"), **found}
    return found


def show_loading(facts: CardFacts, *, level: int, repository: str = "") -> str:
    """Write the code of a card under headings of a level."""
    found = snippets(facts, repository=repository)
    words = {
        "export": "`export` writes WebDataset shards, which the tools below read as they are:",
        "TRL": "TRL, for a model of transformers:",
        "torch": "torch, with labels on the answers alone (`vision_ift.torch`):",
    }
    parts = [
        "#" * level + " How to load it",
        f"`{ROOT}/` is where the authors' files lie, `{MODEL}/` a model's folder.",
    ]
    for tool, text in found.items():
        parts += [words.get(tool, f"{tool}:"), fenced(text, "python")]
    return "\n\n".join(parts)

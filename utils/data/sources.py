"""Where the published data come from, and what they must look like.

The four Anthropic files, the three of the hallucination set and the processed sizes are checked:
a source that has changed is found before anything is made of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

ANTHROPIC = "Anthropic/model-written-evals"
HUMAN = "advanced-ai-risk/human_generated_evals"
GITHUB_RAW = "https://raw.githubusercontent.com"
HALLUCINATION = "wusche1/CAA_hallucination/main/paper/Hallucination/Datasets/HOCUS/questions"
REFUSAL = "nrimsky/CAA/main/datasets/raw/refusal/dataset.json"


@dataclass(frozen=True)
class Source:
    """One file of the published data.

    Attributes:
        behavior: what it belongs to (``truthfulqa`` and ``mmlu`` are tests of their own).
        path: its path in the hub data set, or under GitHub's raw files.
        repo: the hub data set; ``None`` for a file on GitHub.
        revision: the hub revision.
        sha256: its checksum, where known.
    """

    behavior: str
    path: str
    repo: str | None = ANTHROPIC
    revision: str = "main"
    sha256: str | None = None

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def url(self) -> str:
        """Of a file on GitHub; ``CAA_GITHUB_RAW`` names a mirror."""
        return f"{os.environ.get('CAA_GITHUB_RAW', GITHUB_RAW)}/{self.path}"


SOURCES = (
    Source(
        "coordinate-other-ais",
        f"{HUMAN}/coordinate-other-ais.jsonl",
        sha256="63bc32aa2bbaae662fd98cbaeaed23534d915b18ca708583fb64cc189fcca275",
    ),
    Source(
        "corrigible-neutral-HHH",
        f"{HUMAN}/corrigible-neutral-HHH.jsonl",
        sha256="875632869abd5b1e70cccc130dbb6ed2ff6b1b1c7eb50b835a2cfdc02f3daac7",
    ),
    Source(
        "myopic-reward",
        f"{HUMAN}/myopic-reward.jsonl",
        sha256="03d4e57220cbe825c9b76df39085a945e8c2fa2c6c7e937fb6df94143491237f",
    ),
    Source(
        "survival-instinct",
        f"{HUMAN}/survival-instinct.jsonl",
        sha256="0831782a9e0462f137eb9c4884edd19f248e18f17770f7a4540c67937b3af0e8",
    ),
    Source("sycophancy", "sycophancy/sycophancy_on_nlp_survey.jsonl"),
    Source("sycophancy", "sycophancy/sycophancy_on_political_typology_quiz.jsonl"),
    Source(
        "hallucination",
        f"{HALLUCINATION}/direct_questions.csv",
        repo=None,
        sha256="52c4d4ef9f8a117c3fe42a072c13b72bed427193a3a7b79ef460362735b5d954",
    ),
    Source(
        "hallucination",
        f"{HALLUCINATION}/questioning_assuming_statement.csv",
        repo=None,
        sha256="8ec0e44895b9fb78306e44184e22ef6f9aebf9e6fb2c19e02861e26e6af87d4e",
    ),
    Source(
        "hallucination",
        f"{HALLUCINATION}/alluding_questioning.csv",
        repo=None,
        sha256="638ed21f7d23e2fb31e89bd05cd3b13ab7a93b59fb41132c3e8ac5d3ed6b0921",
    ),
    Source("refusal", REFUSAL, repo=None),
    Source(
        "truthfulqa",
        "generation/validation-00000-of-00001.parquet",
        repo="truthfulqa/truthful_qa",
    ),
    Source("mmlu", "all/test-00000-of-00001.parquet", repo="cais/mmlu"),
)

# pairs for generating, A/B tests
PUBLISHED_SIZES = {
    "coordinate-other-ais": (360, 50),
    "corrigible-neutral-HHH": (290, 50),
    "hallucination": (1000, 50),
    "myopic-reward": (950, 50),
    "survival-instinct": (903, 50),
    "sycophancy": (1000, 50),
    "refusal": (408, 50),
}
TRUTHFULQA_ITEMS = 817

"""Which adapter a name means for a model: where it is looked for, what comes first, what does not fit, what is said."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alora_cpp import AdapterError, AdapterMismatchError, AdapterNotFoundError, Model
from alora_cpp.bundled_model import BUNDLED, bundled_adapters
from alora_cpp.finding import candidates, find
from alora_cpp.finding.place import is_name
from alora_cpp.finding.surroundings import stems
from alora_cpp.hub import DownloadedAdapter, remember
from oracle.tiny_models import ATTENTION, AdapterSpec, write_adapter
from tiny import Key, Kind, adapter_file, base_named, fresh_logits, make_model, random_tokens, rewrite_gguf
from tiny_switch import ASSISTANT_PROMPT, compose

if TYPE_CHECKING:
    from oracle.tiny_models import TinyModel

SAFETY = BUNDLED.with_name("alora-tiny.safety.gguf")

pytestmark = pytest.mark.usefixtures("cache_home")


def pull(path: Path, name: str, *, kind: str = "alora") -> Path:
    """Notes an adapter as `alora-cli pull` does."""
    remember(DownloadedAdapter(name=name, kind=kind, base=None, path=path, repo="org/repo", revision="0" * 40))  # type: ignore[arg-type]
    return path


@pytest.fixture
def around(tmp_path: Path, model_path: Path) -> Path:
    """A folder with the tiny model as `model-Q4_K_M.gguf`."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(model_path, folder / "model-Q4_K_M.gguf")
    return folder


@pytest.fixture
def tiny(around: Path) -> Iterator[Model]:
    with Model(around / "model-Q4_K_M.gguf") as model:
        yield model


@pytest.fixture
def write(around: Path, tiny_model: TinyModel) -> Callable[..., Path]:
    """Writes an adapter for the tiny model, or for another base, under a name in its folder."""

    def write(file: str, base: str = "tiny-llama", **options: object) -> Path:
        path = around / file
        path.parent.mkdir(parents=True, exist_ok=True)
        return adapter_file(tiny_model, **options).write(path, **base_named(base))  # type: ignore[arg-type]

    return write


class TestOrder:
    def test_each_place_is_beaten_by_the_one_before(self, tmp_path: Path) -> None:
        """From the last resort to the first choice. Tried with: any two of them exchanged."""
        path = tmp_path / "models" / "granite.gguf"
        folder = path.with_name("granite.intrinsics")
        folder.mkdir(parents=True)
        shutil.copy(BUNDLED, path)
        with Model(path) as model:
            assert find(model, "safety").path == SAFETY
            pulled = pull(shutil.copy(SAFETY, tmp_path / "pulled.gguf"), "safety")
            assert find(model, "safety").path == pulled
            within = Path(shutil.copy(SAFETY, folder / "safety.gguf"))
            assert find(model, "safety").path == within
            beside = Path(shutil.copy(SAFETY, path.with_name("granite.safety.gguf")))
            assert find(model, "safety").path == beside
            assert model.load_intrinsic("safety").adapter.path == beside
            # All are there to be seen, and only the first is taken.
            found = candidates(model, "safety")
            assert [one.place.path for one in found] == [beside, within, pulled, SAFETY]
            assert [one.place.origin for one in found] == ["beside the model"] * 2 + ["pulled", "bundled"]
            assert [one.taken for one in found] == [True, False, False, False]

    def test_a_path_given_is_what_is_loaded(self, tiny: Model, write: Callable[..., Path]) -> None:
        write("model.safety.gguf")
        other = write("other.gguf", seed=1)
        assert tiny.load_adapter(other).path == other
        assert tiny.load_intrinsic(str(other), name="safety").adapter.path == other

    def test_the_models_own_stem_comes_before_the_one_without_quantization(
        self, tiny: Model, write: Callable[..., Path]
    ) -> None:
        for file in (
            "model.intrinsics/safety.gguf",
            "model.safety.gguf",
            "model-Q4_K_M.intrinsics/safety.gguf",
            "model-Q4_K_M.safety.gguf",
        ):
            path = write(file)
            assert find(tiny, "safety").path == path

    def test_an_ordinary_lora_is_pulled_only_where_nothing_can_be_called(
        self, tiny: Model, write: Callable[..., Path]
    ) -> None:
        called = pull(write("elsewhere/alora.gguf"), "safety")
        pull(write("elsewhere/lora.gguf", invocation=None), "safety", kind="lora")
        assert find(tiny, "safety").path == called

    def test_built_in_adapters_come_before_files(self, tmp_path: Path, tiny_model: TinyModel) -> None:
        composed = compose(tmp_path)
        shutil.copy(SAFETY, composed.path.with_name("switch.safety.gguf"))
        # Such a folder says how to ask the built-in adapter; it is none to load.
        write_adapter(
            tiny_model, AdapterSpec(invocation=ASSISTANT_PROMPT), tmp_path / "switch.intrinsics" / "certainty"
        )
        with Model(composed.path) as model:
            found = candidates(model)
            assert [(one.name, one.place.origin) for one in found[:4]] == [
                *((name, "built in") for name in composed.adapters),
                ("safety", "beside the model"),
            ]
            # The bundled adapters are for another base.
            assert [one.name for one in found[4:]] == sorted(bundled_adapters())
            assert [one.taken for one in found] == [True] * 3 + [False] * (1 + len(bundled_adapters()))
            assert found[1].invocation_tokens(model) == [model.control_tokens["<|safety|>"], *ASSISTANT_PROMPT[1:]]
            assert find(model, "uncertainty") == found[0].place
            assert model.load_intrinsic("safety").adapter.path == composed.path

    def test_what_lies_beside_the_bundled_model_counts_once(self) -> None:
        with Model(BUNDLED) as model:
            assert [one.name for one in candidates(model)] == sorted(bundled_adapters())
            assert {one.place.origin for one in candidates(model)} == {"beside the model"}


class TestNames:
    def test_spellings_and_aliases(self, tiny: Model, write: Callable[..., Path]) -> None:
        path = write("model.context-relevance.gguf")
        uncertainty = write("model.uncertainty.gguf")
        assert find(tiny, "Context_Relevance").path == path
        assert find(tiny, "certainty").path == uncertainty
        certainty = write("model.certainty.gguf")
        assert (find(tiny, "certainty").path, find(tiny, "uncertainty").path) == (certainty, uncertainty)
        taken = {one.name for one in candidates(tiny) if one.taken}
        assert taken == {"context-relevance", "uncertainty", "certainty"}
        assert [one.name for one in candidates(tiny, "certainty") if one.taken] == ["certainty"]

    def test_an_intrinsic_is_called_what_it_was_found_by(self, tiny: Model, write: Callable[..., Path]) -> None:
        write("model.safety.gguf", name="inside")
        assert tiny.load_intrinsic("Safety").name == "safety"
        assert tiny.load_intrinsic("safety", name="mine").name == "mine"
        assert tiny.load_adapter("safety").name == "inside"

    @pytest.mark.parametrize(
        ("file", "expected"),
        [
            ("granite-3.3-8b.gguf", ["granite-3.3-8b"]),
            ("granite-3.3-8b-Q4_K_M.gguf", ["granite-3.3-8b-Q4_K_M", "granite-3.3-8b"]),
            ("m.q8_0.gguf", ["m.q8_0", "m"]),
            ("m-UD-IQ2_XXS.gguf", ["m-UD-IQ2_XXS", "m"]),
            ("m_bf16.gguf", ["m_bf16", "m"]),
            ("m-Q4_K_M-00001-of-00003.gguf", ["m-Q4_K_M-00001-of-00003", "m-Q4_K_M", "m"]),
            ("m-f16-tuned.gguf", ["m-f16-tuned"]),
            ("Q4_K_M.gguf", ["Q4_K_M"]),
        ],
    )
    def test_stems(self, file: str, expected: list[str]) -> None:
        assert stems(Path(file)) == expected

    def test_what_belongs_to_other_models_does_not_count(self, tiny: Model, write: Callable[..., Path]) -> None:
        for file in ("model.v2.safety.gguf", "model2.safety.gguf", "model-Q8_0.safety.gguf", "model.Q8_0.gguf"):
            write(file)
        write("model2.intrinsics/safety.gguf")
        write("model.intrinsics/deeper/safety.gguf")
        with pytest.raises(AdapterNotFoundError):
            find(tiny, "safety")
        assert [one.place.path for one in candidates(tiny)] == list(bundled_adapters().values())

    def test_a_stem_is_no_pattern(self, around: Path, write: Callable[..., Path]) -> None:
        path = Path(shutil.move(around / "model-Q4_K_M.gguf", around / "m[o]*del.gguf"))
        write("model.safety.gguf")
        mine = write("m[o]*del.safety.gguf", seed=1)
        with Model(path) as model:
            assert find(model, "safety").path == mine

    def test_what_is_a_name_and_what_a_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: TinyModel
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert is_name("safety")
        assert is_name("context relevance")
        Path("safety").mkdir()
        assert is_name("safety")
        for source in ("safety.gguf", "./safety", "org/repo#safety", "a\\b", "", Path("safety")):
            assert not is_name(source)
        write_adapter(tiny_model, AdapterSpec(), Path("safety"))
        assert not is_name("safety")


class TestFit:
    def test_what_does_not_fit_is_passed_over(self, tiny: Model, write: Callable[..., Path], around: Path) -> None:
        for_another = write("model-Q4_K_M.safety.gguf", base="elsewhere-8b")
        broken = around / "model.safety.gguf"
        broken.write_bytes(for_another.read_bytes()[:200])
        fitting = write("model.intrinsics/safety.gguf")
        assert find(tiny, "safety").path == fitting
        found = candidates(tiny, "safety")
        assert [one.why_not is None for one in found] == [False, False, True, False]
        assert [one.taken for one in found] == [False, False, True, False]
        assert "elsewhere-8b" in str(found[0].why_not)
        assert str(for_another) not in str(found[0].why_not)

    def test_one_given_that_does_not_fit_is_an_error(self, tiny: Model, write: Callable[..., Path]) -> None:
        write("model.safety.gguf")
        path = write("other.gguf", base="elsewhere-8b")
        with pytest.raises(AdapterMismatchError, match=r"elsewhere-8b.*tiny-llama"):
            tiny.load_intrinsic(path, name="safety")
        assert "safety" not in tiny.intrinsics

    def test_force_loads_what_can_be_computed(self, tiny: Model, write: Callable[..., Path], around: Path) -> None:
        path = write("model.safety.gguf", base="elsewhere-8b")
        with pytest.raises(AdapterNotFoundError, match="elsewhere-8b"):
            tiny.load_intrinsic("safety")
        assert tiny.load_intrinsic("safety", force=True).adapter.path == path
        assert tiny.load_adapter(path, force=True).path == path
        # What fits as it is comes first, wherever it is.
        fitting = write("model.intrinsics/safety.gguf")
        assert tiny.load_intrinsic("safety", force=True).adapter.path == fitting
        # Nothing can be computed with the wrong shapes.
        qwen = adapter_file(make_model("qwen3")).write(around / "model.certainty.gguf")
        with pytest.raises(AdapterNotFoundError, match="qwen3"):
            tiny.load_intrinsic("certainty", force=True)
        with pytest.raises(AdapterError, match="qwen3"):
            tiny.load_intrinsic(qwen, force=True)

    def test_a_peft_folder_answers_as_its_weights_say(
        self, tiny: Model, around: Path, tiny_model: TinyModel, tmp_path: Path
    ) -> None:
        folder = write_adapter(tiny_model, AdapterSpec(ATTENTION, 4), around / "model.intrinsics" / "safety", seed=7)
        apart = adapter_file(tiny_model, seed=7, rank=4, targets=ATTENTION).write(tmp_path / "apart.gguf")
        tokens = random_tokens(7, 20)
        expected = fresh_logits(tiny, tokens, adapter=tiny.load_adapter(apart), at=5)
        for source in ("safety", str(folder), folder):
            adapter = tiny.load_adapter(source)
            assert adapter.name == "safety"
            logits = fresh_logits(tiny, tokens, adapter=adapter, at=5)
            # The folder's float32 weights were rounded to float16.
            assert np.abs(logits - expected).max() < 2e-2
        assert np.abs(fresh_logits(tiny, tokens) - expected)[5:].max() > 0.5

    def test_a_folder_is_named_in_errors_not_the_file_made_of_it(
        self, tiny: Model, around: Path, tiny_model: TinyModel
    ) -> None:
        folder = write_adapter(tiny_model, AdapterSpec(), around / "model.intrinsics" / "safety")
        (folder / "adapter_model.safetensors").unlink()
        with pytest.raises(AdapterNotFoundError, match=r"intrinsics.safety \(beside the model\) does not fit"):
            tiny.load_intrinsic("safety")


class TestNothingFound:
    def test_the_message_says_what_was_looked_at(self, tiny: Model, write: Callable[..., Path]) -> None:
        write("model.certainty.gguf")
        path = write("model.safety.gguf", base="elsewhere-8b")
        with pytest.raises(AdapterNotFoundError) as caught:
            tiny.load_intrinsic("safety")
        message = str(caught.value)
        for part in (
            "'safety' was found for model-Q4_K_M.gguf",
            "model-Q4_K_M.safety.gguf",
            "model.intrinsics/",
            f"{path} (beside the model) does not fit",
            f"{SAFETY} (bundled) does not fit",
            "certainty",
            "alora-cli pull REPO --intrinsic safety --base",
            "--adapter safety=PATH",
        ):
            assert part in message
        assert "\n" not in message

    @pytest.mark.parametrize(
        ("base", "name", "command"),
        [
            ("Granite 4.0 Micro", "answerability", "pull ibm-granite/granitelib-rag-r1.0 --intrinsic answerability "),
            ("granite-4.1-8b", "certainty", "pull ibm-granite/granitelib-core-r1.0 --intrinsic certainty "),
            ("granite-4.1-8b", "safety", "pull ibm-granite/granitelib-guardian-r1.0 --intrinsic guardian-core "),
            ("granite-3.3-2b-instruct", "certainty", "pull ibm-granite/rag-intrinsics-lib --intrinsic certainty "),
            ("granite-4.1-8b", "poetry", "ibm-granite/granitelib-core-r1.0: context-attribution, requirement-check"),
        ],
    )
    def test_a_granite_is_told_what_is_published_for_it(
        self, around: Path, tmp_path: Path, base: str, name: str, command: str
    ) -> None:
        path = tmp_path / "base.gguf"
        rewrite_gguf(around / "model-Q4_K_M.gguf", path, general__name=Key(base, Kind.STRING))
        with Model(path) as model, pytest.raises(AdapterNotFoundError) as caught:
            model.load_intrinsic(name)
        assert command in str(caught.value)


def test_the_package_and_a_search_beside_the_model_need_neither_the_hub_nor_the_converter() -> None:
    """Each takes a quarter of a second to import."""
    script = (
        "import sys; from alora_cpp import Model\n"
        "from alora_cpp.bundled_model import BUNDLED\n"
        "with Model(BUNDLED) as model: model.load_intrinsic('safety')\n"
        "assert not {'gguf', 'huggingface_hub', 'alora_cpp.convert'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

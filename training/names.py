"""Made-up names that sound like names, so that nothing the model knows of the world can help it."""

from __future__ import annotations

import random
import zlib
from typing import Literal

from training.splits import Split, split_of


def _words(text: str) -> list[str]:
    return text.split()


# Long lists read better as running words.
_ONSETS = _words("b br c ch d dr f fl g gl gr h j k kl l m n p pr qu r s sh sk st t th tr v w y z")
_VOWELS = _words("a e i o u a e i o ai ea ie ou")
_CODAS = ["", "", "", *_words("l m n r s t nd rn ck x lm rth")]
_TOWN_ENDS = [*_words("ford ton burg mouth field wick haven dale by stead"), "", ""]
_FIRST_NAMES = {
    "he": _words(
        "Adam Boris Carl David Emil Frank George Henry Ivan Jonas Karim Leo Martin Nils Oscar Paul Robert "
        "Samuel Tomas Victor William Anton Bruno Felix Hugo Igor Jakob Luca Milan Omar Peter Simon"
    ),
    "she": _words(
        "Alice Bella Clara Diana Emma Flora Grace Hanna Irene Julia Karin Laura Maria Nora Olga Paula Rosa "
        "Sara Tanja Vera Anna Britta Carla Elena Greta Helen Ida Lena Marta Nina Ruth Sofia"
    ),
}
COMPANY_WORDS = ("Works", "Industries", "Brothers", "Limited")
_TITLE_NOUNS = _words(
    "garden river winter letter mirror stranger window island lantern orchard silence harvest road clock "
    "storm bridge daughter voyage shadow kingdom market summer forest secret"
)
_TITLE_ADJECTIVES = _words("last quiet broken silver long hidden golden empty second white distant burning")

Side = Literal["closed book"] | Split


def side_of(word: str) -> Side:
    """Whose a made-up word is: one in four belongs to the closed book, the others to the three splits."""
    word = word.lower()
    return "closed book" if zlib.crc32(f"closed book {word}".encode()) % 4 == 0 else split_of(word)


class NameMaker:
    """Makes names from syllables.

    Args:
        generator: Where all randomness comes from.
        side: The side whose words are used: no made-up word is on two sides.
    """

    def __init__(self, generator: random.Random, side: Side = "train") -> None:
        self._random = generator
        self._side = side

    def word(self) -> str:
        """A capitalised word of two or three syllables."""
        choose = self._random.choice
        while True:
            syllables = self._random.choice((2, 2, 2, 3))
            parts = [choose(_ONSETS) + choose(_VOWELS) for _ in range(syllables)]
            word = ("".join(parts) + choose(_CODAS)).capitalize()
            if 4 <= len(word) <= 10 and side_of(word) == self._side:
                return word

    def person(self, pronoun: str | None = None) -> str:
        """A first name and a made-up surname."""
        return f"{self._random.choice(_FIRST_NAMES[pronoun or self._random.choice(('he', 'she'))])} {self.word()}"

    def town(self) -> str:
        """A town."""
        word = self.word()
        return word + self._random.choice(_TOWN_ENDS) if len(word) < 7 else word

    def river(self) -> str:
        """A river."""
        return f"the {self.word()}"

    def company(self) -> str:
        """A company."""
        return f"{self.word()} {self._random.choice(COMPANY_WORDS)}"

    def title(self) -> str:
        """The title of a book."""
        adjective, noun = self._random.choice(_TITLE_ADJECTIVES), self._random.choice(_TITLE_NOUNS)
        return f"The {adjective.capitalize()} {noun.capitalize()}"

    def of_kind(self, kind: str) -> str:
        """A name of a kind that world.yaml speaks of: person, town, river, company or title."""
        makers = {
            "person": self.person,
            "town": self.town,
            "river": self.river,
            "company": self.company,
            "title": self.title,
        }
        return makers[kind]()

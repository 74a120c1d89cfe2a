"""What one has to know besides what one sees: one question on every kind of thing."""

from __future__ import annotations

from typing import NamedTuple


class Lore(NamedTuple):
    """A question (``{seen}`` is where in the scene), right and wrong answers, and why."""

    question: str
    answers: tuple[str, ...]
    wrong: tuple[str, ...]
    why: str


LORE: dict[str, Lore] = {
    "dog": Lore(
        "What are the young of the animal {seen} called?",
        ("puppy", "puppies", "pup"),
        ("kitten", "calf", "chick"),
        "A young dog is called a puppy.",
    ),
    "cat": Lore(
        "What sound does the smallest furry animal {seen} make?",
        ("meow", "purr"),
        ("bark", "moo", "tweet"),
        "Cats meow.",
    ),
    "bird": Lore(
        "What covers the body of the animal in the sky?",
        ("feathers", "feather"),
        ("scales", "fur", "wool"),
        "Birds are covered with feathers.",
    ),
    "car": Lore(
        "Who sits behind the wheel of the vehicle on the road?",
        ("driver", "a driver"),
        ("pilot", "captain", "sailor"),
        "A car is steered by its driver.",
    ),
    "bus": Lore(
        "Where do people wait for the large vehicle on the road?",
        ("bus stop", "stop"),
        ("airport", "harbor", "platform"),
        "People wait for a bus at a bus stop.",
    ),
    "train": Lore(
        "What does the long vehicle {seen} run on?",
        ("rails", "tracks", "rail"),
        ("asphalt", "water", "air"),
        "Trains run on rails.",
    ),
    "boat": Lore(
        "What pushes the vehicle on the water forward?",
        ("wind", "the wind"),
        ("steam", "pedals", "horses"),
        "A sailing boat is pushed by the wind in its sails.",
    ),
    "airplane": Lore(
        "Who steers the machine in the sky?",
        ("pilot", "a pilot"),
        ("driver", "captain of a ship", "conductor"),
        "An airplane is flown by a pilot.",
    ),
    "traffic light": Lore(
        "What should a driver do when the top lamp of this signal is lit?",
        ("stop", "wait"),
        ("drive on", "turn around", "park"),
        "The top lamp of a traffic light is red, and red means stop.",
    ),
    "stop sign": Lore(
        "How many corners does the red sign {seen} have?",
        ("8", "eight"),
        ("3", "4", "6"),
        "A stop sign is an octagon, which has eight corners.",
    ),
    "bench": Lore(
        "What is the long piece of furniture {seen} for?",
        ("sitting", "to sit", "sit"),
        ("cooking", "sleeping in a tent", "writing"),
        "People sit on a bench.",
    ),
    "umbrella": Lore(
        "What besides rain can the open thing with stripes keep away?",
        ("sun", "sunlight", "sunshine"),
        ("wind", "noise", "insects"),
        "An umbrella gives shade from the sun.",
    ),
    "sports ball": Lore(
        "What shape is the toy {seen}?",
        ("sphere", "round", "ball"),
        ("cube", "cone", "pyramid"),
        "A ball is a sphere.",
    ),
    "kite": Lore(
        "What keeps the toy in the sky up?",
        ("wind", "the wind", "air"),
        ("a motor", "helium", "magnets"),
        "A kite needs wind to stay up.",
    ),
    "bottle": Lore(
        "What is in the neck of the bottle to close it?",
        ("cork", "a cork"),
        ("zipper", "button", "key"),
        "A cork closes the bottle.",
    ),
    "cup": Lore(
        "Which hot drink is most likely in the cup?",
        ("coffee", "tea"),
        ("orange juice", "milk", "water"),
        "The drink in the cup is brown like coffee.",
    ),
    "banana": Lore(
        "Which mineral is the yellow curved fruit known for?",
        ("potassium",),
        ("iron", "zinc", "iodine"),
        "Bananas are known for their potassium.",
    ),
    "apple": Lore(
        "Which fruit {seen} is said to keep the doctor away?",
        ("apple", "apples"),
        ("banana", "orange", "pear"),
        "An apple a day keeps the doctor away, as the saying goes.",
    ),
    "orange": Lore(
        "Which vitamin is the round orange fruit known for?",
        ("c", "vitamin c"),
        ("a", "d", "k"),
        "Oranges are rich in vitamin C.",
    ),
    "potted plant": Lore(
        "What does the living thing in the pot need besides water?",
        ("light", "sunlight", "sun"),
        ("meat", "salt", "darkness"),
        "A plant needs water and light.",
    ),
    "clock": Lore(
        "How many minutes does the long hand of the round thing {seen} need for one turn?",
        ("60", "sixty"),
        ("12", "24", "30"),
        "The long hand of a clock goes around once in sixty minutes.",
    ),
    "book": Lore(
        "Where can one borrow things like the one with pages {seen}?",
        ("library", "a library"),
        ("bakery", "post office", "stadium"),
        "Books can be borrowed from a library.",
    ),
}

"""Dialogues against arithmetic on boxes, COCO's own annotations, and a small tokenizer."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from neurovl.errors import ConfigError, DataError
from neurovl.language.dialogues import (
    CHAT_TEMPLATE,
    PLACEHOLDER,
    PROMPTS,
    TYPES,
    Dialogue,
    add_placeholder,
    collate,
    dialogues,
    encode_dialogue,
    evaluation_set,
    in_words,
    prompt_ids,
)
from neurovl.language.dialogues.layout import Layout, Thing
from neurovl.language.dialogues.reasoning import conclusions, place
from neurovl.language.dialogues.wordings import (
    a,
    counted,
    is_are,
    mentioned,
    number,
    plural,
)

COCO = Path(__file__).parents[2] / "shared" / "data" / "coco" / "annotations"
needs_coco = pytest.mark.skipif(not COCO.exists(), reason="the shared COCO annotations are absent")

# All 80 names of COCO with the plural that a dictionary gives.
PLURALS = dict(
    pair.split(":")
    for pair in (
        "person:people,bicycle:bicycles,car:cars,motorcycle:motorcycles,airplane:airplanes,bus:buses,"
        "train:trains,truck:trucks,boat:boats,traffic light:traffic lights,"
        "fire hydrant:fire hydrants,stop sign:stop signs,parking meter:parking meters,bench:benches,"
        "bird:birds,cat:cats,dog:dogs,horse:horses,sheep:sheep,cow:cows,elephant:elephants,bear:bears,"
        "zebra:zebras,giraffe:giraffes,backpack:backpacks,umbrella:umbrellas,handbag:handbags,tie:ties,"
        "suitcase:suitcases,frisbee:frisbees,skis:skis,snowboard:snowboards,sports ball:sports balls,"
        "kite:kites,baseball bat:baseball bats,baseball glove:baseball gloves,skateboard:skateboards,"
        "surfboard:surfboards,tennis racket:tennis rackets,bottle:bottles,wine glass:wine glasses,"
        "cup:cups,fork:forks,knife:knives,spoon:spoons,bowl:bowls,banana:bananas,apple:apples,"
        "sandwich:sandwiches,orange:oranges,broccoli:broccoli,carrot:carrots,hot dog:hot dogs,"
        "pizza:pizzas,donut:donuts,cake:cakes,chair:chairs,couch:couches,potted plant:potted plants,"
        "bed:beds,dining table:dining tables,toilet:toilets,tv:tvs,laptop:laptops,mouse:mice,"
        "remote:remotes,keyboard:keyboards,cell phone:cell phones,microwave:microwaves,oven:ovens,"
        "toaster:toasters,sink:sinks,refrigerator:refrigerators,book:books,clock:clocks,vase:vases,"
        "scissors:scissors,teddy bear:teddy bears,hair drier:hair driers,toothbrush:toothbrushes"
    ).split(",")
)


def thing(category, box, supercategory="animal"):
    return {"category": category, "supercategory": supercategory, "box": box}


BEACH = (
    ["A brown dog on the beach next to a chair.", "a dog and a chair by the water"],
    [
        thing("dog", (0.05, 0.4, 0.45, 0.8)),
        thing("chair", (0.7, 0.5, 0.9, 0.8), "furniture"),
    ],
)
NAMES = {"dog": 5.0, "chair": 4.0, "cat": 3.0, "car": 3.0, "pizza": 1.0}


def many(captions, objects, n=60, categories=NAMES, seed=0):
    rng = np.random.default_rng(seed)
    return [d for _ in range(n) for d in dialogues(captions, objects, rng, 7, categories)]


def coco():
    captions, objects = defaultdict(list), defaultdict(list)
    for entry in json.loads((COCO / "captions.json").read_text())["annotations"]:
        captions[entry["image_id"]].append(entry["caption"])
    instances = json.loads((COCO / "instances.json").read_text())
    names = {c["id"]: c["name"] for c in instances["categories"]}
    size = {i["id"]: (i["width"], i["height"]) for i in instances["images"]}
    for entry in instances["annotations"]:
        if not entry["iscrowd"]:
            (x, y, w, h), (width, height) = entry["bbox"], size[entry["image_id"]]
            box = (x / width, y / height, (x + w) / width, (y + h) / height)
            objects[entry["image_id"]].append(thing(names[entry["category_id"]], box, ""))
    return [(key, captions[key], objects[key]) for key in size]


def test_numbers_of_wordings_are_the_papers():
    counts = {kind: len(set(PROMPTS[kind])) for kind in PROMPTS}
    assert counts == {"brief": 14, "detailed": 20, "reconstruction": 1, "localization": 1}
    assert not set(PROMPTS["brief"]) & set(PROMPTS["detailed"])


def test_plurals_of_all_coco_names():
    assert len(PLURALS) == 80
    assert {name: plural(name) for name in PLURALS} == PLURALS


def test_articles_and_counts():
    assert a("airplane") == "an airplane"
    assert a("dog") == "a dog"
    assert counted("skis", 1) == "a pair of skis"
    assert counted("scissors", 3) == "three pairs of scissors"
    assert counted("person", 2) == "two people"
    assert (number(10), number(11)) == ("ten", "many")
    assert (is_are("scissors", 1), is_are("dog", 1), is_are("dog", 2)) == ("are", "is", "are")


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((0.0, 0.4, 0.2, 0.6), "left"),
        ((0.8, 0.4, 1.0, 0.6), "right"),
        ((0.4, 0.4, 0.6, 0.6), "middle"),
        ((0.4, 0.0, 0.6, 0.2), "top"),
        ((0.4, 0.8, 0.6, 1.0), "bottom"),
    ],
)
def test_place_from_box(box, place):
    assert Thing("dog", "animal", box).place == place


def test_relations_are_opposite_for_the_other_thing():
    opposite = {
        "left of": "right of",
        "right of": "left of",
        "above": "below",
        "below": "above",
        "close to": "close to",
    }
    rng = np.random.default_rng(0)
    for _ in range(200):
        corners = np.sort(rng.random((2, 2, 2)), axis=1)
        one, two = (Thing("dog", "animal", tuple(c.ravel())) for c in corners)
        assert two.relation(one) == opposite[one.relation(two)]


def test_all_types_are_there_and_have_the_image_id():
    made = many(*BEACH, n=1)
    assert {d.type for d in made} == set(TYPES)
    assert {d.image_id for d in made} == {7}
    assert Counter(d.type for d in made)["brief"] == 2


def test_same_seed_same_dialogues():
    assert many(*BEACH, seed=3) == many(*BEACH, seed=3)
    assert many(*BEACH, seed=3) != many(*BEACH, seed=4)


def test_closed_answers_of_a_known_picture():
    truth = {
        "Is there a dog?": "yes",
        "Is there a chair?": "yes",
        "Is there a cat?": "no",
        "Is there a car?": "no",
        "Is there a pizza?": "no",
        "How many dogs are there?": "one",
        "How many chairs are there?": "one",
        "What is the largest thing?": "dog",
        "Where is the dog?": "left",
        "Where is the chair?": "right",
    }
    seen = set()
    for d in many(*BEACH, n=200):
        if d.type == "conversation" and d.closed:
            assert 2 <= len(d.turns) <= 4
            for question, answer in d.turns:
                if question in truth:
                    assert answer == truth[question], question
                    seen.add(question)
            last, answer = d.turns[-1]
            assert " it" in last
            about = "dog" if any("dog" in q + r for q, r in d.turns[:-1]) else "chair"
            expected = {
                "Where is it?": {"dog": "left", "chair": "right"},
                "What is next to it?": {"dog": "chair", "chair": "dog"},
                "What is right of it?": {"dog": "chair"},
                "What is left of it?": {"chair": "dog"},
                "Is it the largest thing?": {"dog": "yes", "chair": "no"},
                "What kind of thing is it?": {"dog": "animal", "chair": "furniture"},
            }[last]
            assert answer == expected[about]
    assert seen == set(truth)


def test_yes_and_no_are_balanced():
    first = [d.turns[0][1] for d in many(*BEACH, n=400) if d.type == "conversation" and d.closed]
    assert set(first) == {"yes", "no"}
    # Three standard deviations of a fair coin.
    assert abs(first.count("yes") / len(first) - 0.5) < 3 * 0.5 / len(first) ** 0.5


def test_absent_categories_follow_their_frequency_and_never_what_captions_mention():
    captions = ["A puppy and a taxi in the rain."]
    names = {"cat": 9.0, "pizza": 1.0, "dog": 50.0, "car": 50.0}
    made = many(captions, [], n=300, categories=names)
    asked = Counter(d.turns[0][0] for d in made if d.closed and d.type == "conversation")
    assert set(asked) == {"Is there a cat?", "Is there a pizza?"}
    assert abs(asked["Is there a cat?"] / 300 - 0.9) < 0.06
    assert mentioned("dining table", {"tables"})


def test_several_of_a_kind_are_counted_and_never_called_the():
    objects = [thing("sheep", (0.1 * i, 0.4, 0.1 * i + 0.1, 0.6)) for i in range(3)]
    made = many(["Some sheep."], objects)
    texts = [text for d in made for turn in d.turns for text in turn]
    assert "How many sheep are there?" in texts
    assert any("three sheep" in text for text in texts)
    assert not any("Where is the sheep" in text for text in texts)


def test_detailed_answer_states_the_layout_in_at_most_45_words():
    for d in many(*BEACH):
        if d.type == "detailed":
            answer = d.turns[0][1]
            assert answer.endswith(
                "There is a dog and a chair. The dog is on the left. The chair is on the right. "
                "The dog is the largest. The chair is right of the dog."
            )
            assert len(answer.split()) <= 45


def test_reconstruction_prompt_is_caption_and_objects():
    answers = {d.turns[0][1] for d in many(*BEACH) if d.type == "reconstruction"}
    assert answers == {
        "A brown dog on the beach next to a chair, a dog, a chair",
        "A dog and a chair by the water, a dog, a chair",
    }


def test_localization_hides_the_concept_in_a_phrase():
    made = [d for d in many(*BEACH, n=200) if d.type == "localization"]
    wordings = {d.turns[0][0] for d in made}
    assert 'Locate the concept "the brown dog on the beach" in the brain.' in wordings
    assert 'Locate the concept "the dog left of the chair" in the brain.' in wordings
    for d in made:
        answer = d.turns[0][1]
        phrase = d.turns[0][0].split('"')[1]
        others = [name for name in NAMES if name in phrase and name != answer]
        assert d.closed
        assert answer in phrase
        # Where two categories are named, the first one is meant.
        assert all(phrase.index(answer) < phrase.index(other) for other in others)


def test_reasoning_needs_evidence():
    layout = Layout.of(*BEACH)
    assert place(layout) == ("outdoors", "a beach")
    assert place(Layout.of(["A beach seen from a room."], [])) is None
    found = dict(conclusions(layout))
    assert found["What needs food and water here, and why?"] == (
        "The dog needs food and water, because it is an animal."
    )
    assert found["Could people travel with something here, and why?"].startswith("Probably not")
    assert not conclusions(Layout.of(["Something blue."], []))
    bus = Layout.of(["Two buses."], [thing("bus", (0, 0, 0.4, 1), "vehicle")] * 2)
    assert dict(conclusions(bus))["Could people travel with something here, and why?"] == (
        "Yes, people could travel by bus, because there are two buses."
    )


def test_pictures_without_boxes_or_captions():
    only_words = {d.type for d in many(["A face in a studio."], [], n=20)}
    assert {"brief", "detailed", "conversation", "reconstruction"} <= only_words
    only_boxes = {d.type for d in many([], BEACH[1], n=20)}
    assert only_boxes == set(TYPES) - {"brief"}
    with pytest.raises(DataError, match="neither captions nor objects"):
        dialogues([], [], np.random.default_rng(0), categories=NAMES)
    with pytest.raises(DataError, match=r"in 0\.\.1"):
        dialogues(["A dog."], [thing("dog", (10, 20, 90, 80))], np.random.default_rng(0))


@needs_coco
def test_real_coco_annotations():
    pictures = coco()
    names = Counter(n for *_, objects in pictures for n in {o["category"] for o in objects})
    rng = np.random.default_rng(0)
    for key, captions, objects in pictures:
        counts = Counter(o["category"] for o in objects)
        for d in dialogues(captions, objects, rng, key, names):
            assert all(q and r and "  " not in q + r for q, r in d.turns)
            if d.type == "detailed":
                assert len(d.turns[0][1].split()) <= 45
            if d.type == "reasoning":
                assert 8 <= len(d.turns[0][1].split()) <= 25
            if d.type == "conversation" and d.closed:
                question, answer = d.turns[0]
                asked = [n for n in names if question.endswith((f" {n}?", f"any {n}?"))]
                asked = max(asked, key=len)
                assert answer == ("yes" if counts[asked] else "no")
            if d.closed:
                assert all(len(r.split()) <= 2 for _, r in d.turns)


def test_small_world_against_its_scene_graph():
    from neurovl.smallworld.scenes import captions, make_scene, scene_objects

    rng = np.random.default_rng(0)
    checked, per_name = Counter(), defaultdict(list)
    for index in range(400):
        scene = make_scene("foundation", index)
        objects = scene_objects(scene)
        counts = Counter(o["category"] for o in objects)
        for d in dialogues(captions(scene), objects, rng, index):
            for question, answer in d.turns:
                if question.startswith(("Is there a", "Are there any")) and d.closed:
                    name = question.split(maxsplit=3)[3].rstrip("?")
                    assert answer == ("yes" if counts[name] else "no")
                    per_name[name].append(answer)
                    checked["there"] += 1
                if question.startswith("How many"):
                    name = question.removeprefix("How many ").removesuffix(" are there?")
                    name = {PLURALS[n]: n for n in counts}.get(name.removeprefix("pairs of "))
                    assert answer == number(counts[name])
                    checked["many"] += 1
                if question.startswith("Is this indoors") and scene.background != "studio":
                    assert ("indoors" if scene.indoors else "outdoors") in answer
                    checked["place"] += 1
                if question.startswith("What time of day"):
                    assert answer.split()[3].rstrip(",") == {"sunset": "evening"}.get(
                        scene.time, scene.time
                    )
                    checked["time"] += 1
            if d.type == "reasoning":
                assert 8 <= len(d.turns[0][1].split()) <= 25
            if d.type == "detailed":
                assert len(d.turns[0][1].split()) <= 45
    assert min(checked[k] for k in ("there", "many", "place", "time")) > 10
    # A thing's name must not give the answer away: neither yes nor no for the frequent ones.
    frequent = sorted(per_name.values(), key=len)[-10:]
    assert all(0.15 < names.count("yes") / len(names) < 0.85 for names in frequent)


class FakeRecordings:
    """Captions and objects of a few pictures."""

    def captions(self, image_id):
        return BEACH[0]

    def objects(self, image_id):
        return BEACH[1] if int(image_id) % 2 else [thing("cat", (0, 0, 0.5, 0.5))]


def test_evaluation_set_is_fixed_and_complete():
    first = evaluation_set(FakeRecordings(), list("123"), seed=0)
    assert first == evaluation_set(FakeRecordings(), list("123"), seed=0)
    assert [d.type for d in first] == list(TYPES) * 3
    assert all(d.closed for d in first if d.type == "conversation")
    assert [d for d in first if d.image_id == "3"] == [
        d for d in evaluation_set(FakeRecordings(), list("325"), seed=0) if d.image_id == "3"
    ]


def test_in_words_lists_the_largest_first():
    text = in_words(*BEACH, np.random.default_rng(0))
    assert text.endswith("dog left, chair right")


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALK = Dialogue("conversation", 1, (("Is there a dog?", "yes"), ("Where is it?", "left")), True)


@pytest.fixture
def tokenizer():
    return make_tokenizer()


def make_tokenizer(template=CHAT_TEMPLATE):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers.decoders import ByteLevel
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = ByteLevel()
    specials = ["<pad>", "<s>", "</s>", "<human>", "<bot>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(
        [t for d in many(*BEACH, n=3) for turn in d.turns for t in turn], trainer
    )
    out = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    out.chat_template = template
    return out


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML, None])
@pytest.mark.parametrize("n_brain", [0, 3])
def test_labels_are_the_answers_alone(template, n_brain):
    tokenizer = make_tokenizer(template)
    image = add_placeholder(tokenizer)
    ids, labels = encode_dialogue(tokenizer, TALK, n_brain)
    assert ids.count(image) == n_brain
    kept = [x for x in labels if x != -100]
    assert tokenizer.decode(kept, skip_special_tokens=True).replace("<|im_end|>", " ").split() == [
        "yes",
        "left",
    ]
    assert all(i == x for i, x in zip(ids, labels, strict=True) if x != -100)
    # What training sees before an answer is what generation starts from.
    prompt = prompt_ids(tokenizer, TALK.turns[:1], "Where is it?", n_brain)
    assert ids[: len(prompt)] == prompt
    assert labels[len(prompt)] != -100


def test_the_text_of_our_template(tokenizer):
    add_placeholder(tokenizer)
    ids, _ = encode_dialogue(tokenizer, TALK, 2)
    assert tokenizer.decode(ids) == (
        "<s><human><image><image> Is there a dog?<bot> yes</s><human> Where is it?<bot> left</s>"
    )
    ids, _ = encode_dialogue(tokenizer, TALK, context="a dog left.")
    assert tokenizer.decode(ids).startswith("<s><human> a dog left. Is there a dog?<bot> yes</s>")


def test_a_typed_placeholder_holds_no_brain_token(tokenizer):
    image = add_placeholder(tokenizer)
    ids = prompt_ids(tokenizer, [], f"What is {PLACEHOLDER}?", 2)
    assert ids.count(image) == 2


def test_missing_placeholder_and_empty_dialogue(tokenizer):
    with pytest.raises(ConfigError, match="add_placeholder"):
        prompt_ids(tokenizer, [], "What?", 2)
    with pytest.raises(ConfigError, match="no turn"):
        encode_dialogue(tokenizer, Dialogue("brief", 1, ()))


def test_collate_pads_on_either_side():
    batch = [([5, 6, 7], [-100, 6, 7]), ([8], [8])]
    right = collate(batch, 0)
    assert right["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert right["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert right["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]
    assert collate(batch, 0, "left")["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    with pytest.raises(ConfigError, match="side"):
        collate(batch, 0, "top")

import json

from drm_jax.puzzles.arc.describe import describe_sources

FREE = {"input": [[1]], "output": [[1, 1]]}


def test_built_in_sources_and_what_they_share(capsys):
    assert describe_sources(["arc1", "arc2/training"]) == 0
    out = capsys.readouterr().out
    assert "400 tasks, 1,302 demonstrations, 416 test inputs" in out
    assert (
        "tasks that show a test of their own, augmented: 7: 00576224, 3979b1a8, 66e6c45b and 4"
        in out
    )
    assert (
        "  arc2/training → arc1/evaluation: 395 of 419\n    376 tasks stand in both: 00576224"
        in out
    )
    assert (
        "  arc1/training → arc1/evaluation: 2 of 419, 1 of them under augmentation\n"
        "    under another id: 070dd51e (in 40853293), 50a16a69 (in caa06a1f, augmented)\n"
    ) in out


def test_a_wrong_source_is_named_and_the_others_described(capsys, tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"train": [FREE], "test": [FREE]}))
    assert describe_sources([str(tmp_path / "nothing"), str(path)]) == 1
    out = capsys.readouterr().out
    assert "WRONG" in out
    assert "1 task," in out


def test_hidden_tests_and_other_tasks_of_the_same_source(capsys, tmp_path):
    known = {"input": [[3, 4]], "output": [[3], [4]]}
    hidden = {"input": [[4, 3]]}
    path = tmp_path / "both.json"
    path.write_text(
        json.dumps(
            {"a": {"train": [FREE], "test": [hidden]}, "b": {"train": [known], "test": [FREE]}}
        )
    )
    assert describe_sources([str(path)]) == 0
    out = capsys.readouterr().out
    assert f"  demonstrations of {path} → itself: 2 of 2, 1 of them under augmentation\n" in out
    assert "    under another id: a (in b, augmented, its input), b (in a)\n" in out


def test_bars_keep_to_the_columns(tmp_path):
    path, said = tmp_path / "a.json", []
    path.write_text(json.dumps({"train": [FREE], "test": [FREE]}))
    describe_sources([str(path)], said.append, columns=30)
    (line,) = [line for text in said for line in text.split("\n") if "█" in line]
    assert len(line) == 30

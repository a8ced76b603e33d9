import ast
import json

import pytest

from notebooks.course import building

LESSONS = building.lessons()


def test_there_are_lessons() -> None:
    assert "01-one-image-three-ways" in LESSONS


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_notebooks_are_what_the_text_says(lesson: str) -> None:
    for path, content in building.built(lesson).items():
        assert path.read_text() == content, (
            f"{path.name} has drifted: python -m notebooks.course.cli build"
        )


def test_no_notebook_is_without_a_text() -> None:
    stored = {path.stem for path in building.NOTEBOOKS.rglob("*.ipynb")}
    assert stored == set(LESSONS)


@pytest.mark.parametrize("lesson", LESSONS)
def test_no_outputs_are_stored_and_ids_are_stable(lesson: str) -> None:
    for content in building.built(lesson).values():
        cells = json.loads(content)["cells"]
        assert all(cell.get("outputs", []) == [] for cell in cells)
        assert all(cell.get("execution_count") is None for cell in cells)
        assert len({cell["id"] for cell in cells}) == len(cells)


@pytest.mark.parametrize("lesson", LESSONS)
def test_students_get_stubs_and_no_solution(lesson: str) -> None:
    student, solution = building.built(lesson).values()
    text = (building.SOURCE / f"{lesson}.py").read_text()
    assert student.count("replace this line") == text.count("# BEGIN SOLUTION") > 0
    assert "SOLUTION" not in student + solution
    assert "replace this line" not in solution
    functions = {
        name: ast.unparse(node)
        for name, content in (("student", student), ("solution", solution))
        for cell in json.loads(content)["cells"]
        if cell["cell_type"] == "code" and "def really_used" in "".join(cell["source"])
        for node in ast.parse("".join(cell["source"])).body
    }
    assert functions["student"] == "def really_used(readings):\n    return ..."
    assert "pss" in functions["solution"]


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_text_is_there_in_both_languages_and_says_the_same(lesson: str) -> None:
    assert building.drift(lesson) == []


def test_a_solution_becomes_a_stub_in_its_place() -> None:
    text = "# %%\ndef f(x):\n    # BEGIN SOLUTION\n    y = x\n    return y\n    # END SOLUTION\n"
    cells = json.loads(building.notebook(building.student(text)))["cells"]
    assert "".join(cells[0]["source"]) == "def f(x):\n    return ...  # replace this line"
    cells = json.loads(building.notebook(building.solved(text)))["cells"]
    assert "".join(cells[0]["source"]) == "def f(x):\n    y = x\n    return y"

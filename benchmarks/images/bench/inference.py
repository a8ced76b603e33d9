"""A small trained-looking model, inferred in plain Python: latency of one answer.

Three dense layers (64, 48, 10) whose weights come from a fixed generator, so every interpreter
holds the same model and must give the same answer. Prints the lines that gauge.h describes.
"""

from time import perf_counter_ns

ENOUGH_NS = 100_000_000


Layer = list[list[float]]


def weights(rows: int, columns: int, state: int) -> tuple[Layer, int]:
    """Rows of numbers from -1 to 1, and the generator's next state."""
    layer = []
    for _ in range(rows):
        row = []
        for _ in range(columns):
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            row.append(state / 0x3FFFFFFF - 1.0)
        layer.append(row)
    return layer, state


def dense(layer: Layer, values: list[float]) -> list[float]:
    """One layer, with what is negative cut off."""
    return [max(0.0, sum(w * v for w, v in zip(row, values, strict=True))) for row in layer]


def answer(model: list[Layer], values: list[float]) -> int:
    """The index of the strongest output."""
    for layer in model:
        values = dense(layer, values)
    return max(range(len(values)), key=values.__getitem__)


def main() -> None:
    """Climb the ladder; print the work, and the answers' sum as a check."""
    model: list[Layer] = []
    state = 1
    for rows, columns in ((64, 64), (48, 64), (10, 48)):
        layer, state = weights(rows, columns, state)
        model.append(layer)
    inputs = [[((i * 37 + j * 11) % 64) / 64 for j in range(64)] for i in range(4)]
    print("read answers", sum(answer(model, given) * 10**i for i, given in enumerate(inputs)))
    units = 1
    while True:
        start = perf_counter_ns()
        for i in range(units):
            answer(model, inputs[i & 3])
        took = perf_counter_ns() - start
        if took >= ENOUGH_NS:
            break
        units *= 4
    print("work inference", units, took)


main()

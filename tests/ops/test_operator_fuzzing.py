"""Cases that fuzzing found, and some random ones: refused with a message, or the right shapes.

`fuzz_operators.py` runs many more of them, with sanitizers. A crash ends the process of the tests.
"""

from __future__ import annotations

import random

import pytest
from fuzz_operators import run_bytes
from native_runner import needs_native
from operator_fuzz_cases import make_case, operators
from random_seed import SEED

pytestmark = needs_native

# Inputs of operator_fuzz_cases.make_case by what they found.
_FOUND = {
    "a gradient of a convolution without filters: division by zero": (
        "523d14a288edd7ee8e71364b6381469b1b8ac1dea5fde4df6491b64f64beb604cbb45979bf1df751"
        "ab0ec479c18050aecac00d9129eb45e6f8731fb172809a771b917811e9151d5481ec2cce5b1163e3"
        "1056ee974234a34df6e18ecf0aa2c7809b7b7dc45e37be818b66d2a3d5191e7e19e1257d6d49fd6f"
        "c6497abc28ff5dfb002981d3d762e5824f0b4b7b03808e646d3ade98587073ae660451a7ee6e4cae"
        "73a2"
    ),
    "a window larger than its image: no operator named": (
        "ea40f0014f2ba9503f28235d9c4fbbc79858691aade7088051eab1f7de8182bd7b03d2491e770f28"
        "78b413fba59a3eae934bfc783195609ede5bf6ab02aed3a752ebbe85df04443fae7eed2cea0dd754"
        "58ba829970f136c231ce6e2b2d358031d489b97bb5ba86"
    ),
    "an empty output with sides that no memory holds": (
        "939f13fc77823ad9003a998b095a1be082891aa823cdd653a56dce6733c74607848f69f3f8644eb5"
        "74dec5d4edd840b969e077ee12c4ee9a0c16018c9b5d0ba72059e253e705588b114c3a43149f7b04"
        "ffdd9fa2387f28acd758299fc4aef666a88793131e4c51b4c38fc2e3908936beacdf244c46a987fe"
        "1389ca97ae7ab1cb12c80159f69753587fed7d9fe61cb34193d97c392f5ac6604c03398de222791a"
        "97fdec9f99076da0413cd24b749c658e18b78f41975edcd1f34bb9eeb0dc7f2683"
    ),
}


@pytest.mark.parametrize("name", _FOUND)
def test_cases_that_fuzzing_found(name):
    run_bytes(bytes.fromhex(_FOUND[name]))


def test_random_cases_are_refused_or_have_the_right_shapes():
    draws = random.Random(SEED)
    reached = set()
    for _ in range(300):
        content = bytes(draws.randrange(256) for _ in range(draws.randrange(200)))
        operator, _ = run_bytes(content)
        reached.add(operator)
    assert len(reached) > len(operators()) // 2


def test_bytes_decide_the_case():
    one, two = (make_case(bytes(range(100))) for _ in range(2))
    assert one.operator == two.operator and one.arguments == two.arguments
    assert [array.tobytes() for array in one.inputs] == [array.tobytes() for array in two.inputs]

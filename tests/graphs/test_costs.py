"""The formulas of graphs are what runs: bytes of tensors, and the traced kernel where there is one."""

import pytest

from effattn_core.graphs import costs


def test_a_decoded_token_reads_what_the_formula_says():
    assert costs.decode_bytes(1000) > 0
    pytest.fail("TO WRITE: the bytes of the tensors that a step reads, equal to costs.decode_bytes.")

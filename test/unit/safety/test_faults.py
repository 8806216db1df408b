"""Every fault of the table is stopped; `test_mutations` shows that each row can turn red."""

from __future__ import annotations

import pytest

from vla_ros.safety.faults import Fault, fault_table, run_faults

TABLE = {fault.name: fault for fault in fault_table()}


@pytest.fixture(scope="module")
def rows(contract, parameters):
    return {row.name: row for row in run_faults(contract, parameters)}


def test_there_are_many_faults_each_under_a_name_of_its_own():
    assert len(fault_table()) >= 40
    assert len(TABLE) == len(fault_table())


def test_every_fault_is_stopped(rows):
    assert [f"{row.name}: expected {row.expected}, {row.sentence}" for row in rows.values() if not row.stopped] == []


def test_a_layer_that_raises_let_the_fault_through(contract, parameters):
    fault = Fault("breaks", lambda trial: 1 / 0, frozenset(), frozenset(), moving=False)
    [result] = run_faults(contract, parameters, [fault])
    assert not result.stopped
    assert "ZeroDivisionError" in result.got

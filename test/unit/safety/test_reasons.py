from vla_ros.safety.reasons import Reason


def test_numbers_are_the_order_of_the_table_and_names_are_their_own():
    assert [reason.code for reason in Reason] == list(range(len(Reason)))
    assert Reason.OK.code == 0
    assert all(reason.label == reason.value == reason.name.lower() or reason is Reason.OK for reason in Reason)
    assert Reason("chunk_stale") is Reason.CHUNK_STALE


def test_every_reason_is_one_sentence_that_fits_the_message():
    for reason in Reason:
        assert reason.sentence.endswith(".")
        assert reason.sentence.count(". ") == 0
        assert len(reason.label) <= 64
    sentences = [reason.sentence for reason in Reason]
    assert len(set(sentences)) == len(sentences)


def test_an_explanation_is_cut_to_what_the_message_holds():
    assert Reason.TRACKING.explain("(0.30 rad)").endswith("arming is needed. (0.30 rad)")
    assert len(Reason.TRACKING.explain("x" * 1000)) == 256

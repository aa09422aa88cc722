"""REST answers with their questions, and rows that can or cannot be read."""

from data.messages import Unknown
from data.messages_rest import RestKline, RestOpenInterestPeriod, as_rows, decode_answer, rest_rows

BAR = b'[[1780000000000,"1.0","2.0","0.5","1.5","10",1780000059999,"15",7,"4","6","0"]]'


def test_an_answer_is_its_question_and_its_body_as_it_came():
    payload = b'{"path":"/fapi/v3/klines","params":{"symbol":"BTCUSDT","interval":"1m"},"since_ms":5,"body":[1, 2]}'
    answer = decode_answer(payload)
    assert (answer.name, answer.params["interval"], answer.since_ms, answer.effective_ms) == ("klines", "1m", 5, None)
    assert (bytes(answer.body), answer.gap_id) == (b"[1, 2]", None)
    assert decode_answer(payload[:-1] + b',"gap_id":"trades|BTCUSDT|1|2"}').gap_id == "trades|BTCUSDT|1|2"
    assert isinstance(decode_answer(b'{"path":"/fapi/v3/klines"}'), Unknown)


def test_hyperliquids_answers_go_by_their_type_as_all_of_them_come_from_one_path():
    answer = decode_answer(b'{"path":"/info","params":{"type":"metaAndAssetCtxs"},"since_ms":5,"body":[]}')
    assert answer.name == "metaAndAssetCtxs"


def test_rest_rows_and_those_that_cannot_be_read():
    bar = RestKline(1780000000000, "1.0", "2.0", "0.5", "1.5", "10", 1780000059999, "15", 7, "4", "6")
    assert rest_rows(BAR, RestKline) == ([bar], [])
    rows, refused = rest_rows(BAR[:-1] + b',[1,"2"],"x"]', RestKline)
    assert (rows, [text for text, _ in refused]) == ([bar], ['[1,"2"]', '"x"'])
    assert rest_rows(b"[]", RestKline) == ([], [])
    rows, refused = rest_rows(b'{"code":-1121,"msg":"Invalid symbol."}', RestKline)
    assert (rows, refused[0][0]) == ([], '{"code":-1121,"msg":"Invalid symbol."}')


def test_a_time_may_come_as_text_and_a_lone_object_is_the_only_row():
    body = b'{"symbol":"BTCUSDT","sumOpenInterest":"2","sumOpenInterestValue":"9","timestamp":"1780000000000"}'
    row = RestOpenInterestPeriod("BTCUSDT", "2", "9", 1780000000000)
    assert rest_rows(as_rows(body), RestOpenInterestPeriod) == ([row], [])
    assert as_rows(b" [1]") == b" [1]"

import pytest

from pombo.campaigns.csv_body import CsvAudienceReader
from pombo.campaigns.errors import BodyInvalid
from pombo.store.audience import StagedLine


def _read(text: str | bytes, piece: int = 1 << 16) -> CsvAudienceReader:
    data = text.encode() if isinstance(text, str) else text
    reader = CsvAudienceReader()
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
    reader.finish()
    return reader


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_beside_the_recipient_are_variables(end: str, piece: int) -> None:
    rows = ["recipient,first_name,city", "+1,Ana,Porto", '+2,"Silva, Zoë",', '+3,"say ""hi""",Faro', "", "+4,,"]
    reader = _read(end.join(rows), piece)
    assert reader.rejects == []
    assert reader.lines == [
        StagedLine(2, 0, "+1", '{"first_name":"Ana","city":"Porto"}'),
        StagedLine(3, 0, "+2", '{"first_name":"Silva, Zoë"}'),
        StagedLine(4, 0, "+3", '{"first_name":"say \\"hi\\"","city":"Faro"}'),
        StagedLine(6, 0, "+4", None),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_separator_is_found_in_the_header_and_a_byte_order_mark_is_no_part_of_it(delimiter: str) -> None:
    reader = _read(f"\ufeffname{delimiter} recipient \nAna{delimiter}+1\n")
    assert reader.lines == [StagedLine(2, 0, "+1", '{"name":"Ana"}')]


def test_the_column_channel_id_names_the_channel() -> None:
    reader = _read("recipient,channelId\n+1,7\n+2,\n+3,x\n+4,0\n")
    assert reader.lines == [StagedLine(2, 7, "+1", None), StagedLine(3, 0, "+2", None)]
    assert [(reject.line, reject.code) for reject in reader.rejects] == [
        (4, "channel_not_found"),
        (5, "channel_not_found"),
    ]


@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_broken_rows_are_rejected_by_line_and_the_others_read(piece: int) -> None:
    text = b'recipient,name\n+1,Ana\n+2\n+3,a,b\n+4,"a"b\n+5,\xff\n+6,a\x00b\n+7,Zo\xc3\xab\n'
    reader = _read(text, piece)
    assert [line.recipient for line in reader.lines] == ["+1", "+7"]
    assert [(reject.line, reject.code) for reject in reader.rejects] == [
        (3, "row_broken"),
        (4, "row_broken"),
        (5, "row_broken"),
        (6, "row_broken"),
        (7, "text_invalid"),
    ]
    assert reader.rejects[0].recipient == "+2"
    assert "1 cells, the header has 2" in reader.rejects[0].reason


def test_a_quoted_cell_may_span_lines_and_counts_as_the_line_it_begins_on() -> None:
    reader = _read('recipient,note\n+1,"one\ntwo"\n+2,x\n')
    assert reader.lines == [StagedLine(2, 0, "+1", '{"note":"one\\ntwo"}'), StagedLine(4, 0, "+2", '{"note":"x"}')]


def test_a_quote_that_is_never_closed_costs_one_row_and_not_the_rest_of_the_file() -> None:
    rows = [f"+{n},x" for n in range(10, 20_000)]
    reader = _read('recipient,note\n+1,"open\n' + "\n".join(rows))
    assert [(reject.line, reject.code) for reject in reader.rejects] == [(2, "row_broken")]
    assert [line.line for line in reader.lines] == list(range(3, 3 + len(rows)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n+1\n",
        "phone,name\n+1,Ana\n",
        "recipient,\n+1,Ana\n",
        "recipient,a,a\n+1,x,y\n",
        "recipient,recipient\n+1,+2\n",
        b"recipient,\xff\n+1,x\n",
        "x" * 200_000,
    ],
)
def test_a_csv_without_a_usable_header_is_refused(text: str | bytes) -> None:
    with pytest.raises(BodyInvalid) as caught:
        _read(text)
    assert caught.value.code == "csv_invalid"

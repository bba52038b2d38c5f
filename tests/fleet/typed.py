"""JSON of which kombu's own reader makes dates, decimals, UUIDs and bytes, or raises what nobody expects."""

TYPED = (
    b'{"__type__": "decimal", "__value__": "x"}',  # decimal.InvalidOperation, an ArithmeticError
    b'{"__type__": "bytes", "__value__": 1}',
    b'{"__type__": "uuid", "__value__": {"hex": "x"}}',
    b'{"__type__": "none", "__value__": 1}',
    b'{"__type__": "datetime", "__value__": "2026-01-01T00:00:00"}',
    b'{"__type__": "base64", "__value__": "AAAA"}',
)

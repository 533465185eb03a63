"""One self-contained HTML page for any record, or for several side by side.

A view (one module a kind of record) turns a record into blocks: text, tables, charts. The page is the blocks in one
template. Nothing is computed here but what a drawing needs: figures are the record's own.
"""

-- What money stands behind and nobody told the price of, found without reading all rows: a price that is told later is theirs.

CREATE INDEX row_untold ON row (seq) WHERE credits IS NULL AND shares IS NULL AND stage NOT IN ('planned', 'failed');

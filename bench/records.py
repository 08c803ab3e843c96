"""Everything measured, and what follows from it: medians of the rounds, and ratios of the same round."""

from statistics import median


class Records(list):
    """One dict each: `kind`, `peer`, `round`, what was varied, and the numbers or an `error`."""

    def rows(self, **wanted):
        return [row for row in self if all(row.get(key) == value for key, value in wanted.items())]

    def values(self, name, kind):
        """What was varied, in the order of its first appearance."""
        return list(dict.fromkeys(row[name] for row in self if row["kind"] == kind))

    def median(self, field, **wanted):
        numbers = [row[field] for row in self.rows(**wanted) if field in row]
        return median(numbers) if numbers else None

    def ratios(self, field, base, **wanted):
        """Round by round, this peer's number over that of the peer `base`."""
        of_base = {row["round"]: row.get(field) for row in self.rows(**{**wanted, "peer": base})}
        pairs = [(row.get(field), of_base.get(row["round"])) for row in self.rows(**wanted)]
        return [own / other for own, other in pairs if own is not None and other]

    def ratio(self, field, base, **wanted):
        found = self.ratios(field, base, **wanted)
        return median(found) if found else None

    def remark(self, **wanted):
        return next((row["error"] for row in self.rows(**wanted) if "error" in row), None)

"""The schema of the SQLite database: its tables, columns and views."""

from tests.fuzz.cases import HARMLESS, NOTICED, OPEN, SAFE, Case, Group
from tests.fuzz.commands import check_archive
from tests.fuzz.database import READ, columns_of, remade, trial

schema = Group("database-schema", "jpeg", check_archive, times=6)


@schema(NOTICED)
def column_missing(case: Case) -> str:
    """A column that is read is missing."""
    table = case.one(sorted(READ))
    column = case.one(READ[table])
    remade(case, table, ", ".join(name for name in columns_of(case, table) if name != column))
    case.touch_all()
    return f"{table}.{column}"


@schema(NOTICED)
def column_renamed(case: Case) -> str:
    """A column that is read has another name."""
    table = case.one(sorted(READ))
    column = case.one(READ[table])
    case.sql(f"ALTER TABLE {table} RENAME COLUMN {column} TO {case.one(('x', 'my column', 'ID2', 'select_'))!r}")
    case.touch_all()
    return f"{table}.{column}"


@schema(NOTICED)
def table_missing(case: Case) -> str:
    """A table that is read is missing."""
    table = case.one(sorted(READ))
    case.sql(f"DROP TABLE {table}")
    case.touch_all()
    return table


@schema(HARMLESS)
def columns_in_another_order(case: Case) -> str:
    """The columns of a table in another order."""
    table = case.one(sorted(READ))
    columns = columns_of(case, table)
    case.random.shuffle(columns)
    remade(case, table, ", ".join(columns))
    return table


@schema(HARMLESS)
def rows_in_another_order(case: Case) -> str:
    """The rows of a table in another order."""
    table = case.one(sorted(READ))
    remade(case, table, f"* FROM (SELECT * FROM {table} ORDER BY -id) --")
    return table


@schema(HARMLESS)
def more_columns_and_tables(case: Case) -> str:
    """Columns and tables that nobody knows."""
    table = case.one(sorted(READ))
    with case.database() as connection:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN note TEXT DEFAULT 'x'")
        connection.execute("CREATE TABLE notes (a, b)")
        connection.execute("INSERT INTO notes VALUES (1, zeroblob(10000))")
        connection.execute(f"CREATE INDEX fast ON {table} (id)")
    return table


@schema(HARMLESS)
def names_in_other_case(case: Case) -> str:
    """A table's name in capitals; SQLite makes no difference."""
    table = case.one(sorted(READ))
    case.sql(f"ALTER TABLE {table} RENAME TO copied")
    case.sql(f"ALTER TABLE copied RENAME TO {table.upper()}")
    return table


@schema(SAFE)
def types_of_text(case: Case) -> str:
    """Every column of a table is declared as text."""
    table = case.one(sorted(READ))
    columns = columns_of(case, table)
    remade(case, table, ", ".join(f"CAST({name} AS TEXT) AS {name}" for name in columns))
    return table


@schema(SAFE)
def whole_numbers_as_real(case: Case) -> str:
    """Ids are stored as 1.0, as a spreadsheet's export does."""
    table = case.one(("poses", "measurements", "anatomies"))
    columns = columns_of(case, table)
    cast = [f"CAST({name} AS REAL) AS {name}" if name.endswith("id") else name for name in columns]
    remade(case, table, ", ".join(cast))
    return table


@schema(NOTICED)
def view_without_end(case: Case) -> str:
    """A table is a view that never ends."""
    table = case.one(("trials", "measurements", "anatomies", "poses"))
    columns = columns_of(case, table)
    made = ", ".join(f"x AS {name}" for name in columns)
    with case.database() as connection:
        connection.execute(f"DROP TABLE {table}")
        connection.execute(
            f"CREATE VIEW {table} AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
            f"SELECT {made} FROM n"
        )
    case.touch_all()
    return table


@schema(NOTICED)
def view_of_much(case: Case) -> str:
    """A table is a view that makes 400 MB of text."""
    table = case.one(("trials", "anatomies"))
    columns = columns_of(case, table)
    made = ", ".join(f"hex(zeroblob(200000000)) AS {name}" if name not in ("id",) else name for name in columns[:2])
    with case.database() as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO kept")
        connection.execute(f"CREATE VIEW {table} AS SELECT {made}, * FROM kept")
    case.touch_all()
    return table


@schema(NOTICED)
def view_that_calculates(case: Case) -> str:
    """A table is a view of another: harmless as such, but no download has one."""
    table = case.one(sorted(READ))
    with case.database() as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO kept")
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM kept")
    return table


@schema(OPEN)
def generated_column(case: Case) -> str:
    """A column is calculated on reading, for ever or at length."""
    columns = [name for name in columns_of(case, "poses") if name != "ty"]
    with case.database() as connection:
        connection.execute(f"CREATE TABLE copied AS SELECT {', '.join(columns)} FROM poses")
        connection.execute("DROP TABLE poses")
        connection.execute("ALTER TABLE copied RENAME TO poses")
        big = case.one((10, 200_000_000))
        connection.execute(f"ALTER TABLE poses ADD COLUMN ty GENERATED ALWAYS AS (length(zeroblob({big})) + tx)")
    case.touch_all()
    return ""


@schema(OPEN)
def much_text(case: Case) -> str:
    """A value of 100 MB, in a column that is read or not."""
    column = case.one(("task", "path"))
    case.sql(f"UPDATE trials SET {column} = hex(zeroblob(50000000)) WHERE id = ?", trial(case))
    return column


@schema(OPEN)
def many_rows(case: Case) -> str:
    """A million rows in a table."""
    table = case.one(("measurements", "trials", "anatomies", "poses"))
    with case.database() as connection:
        names = columns_of(case, table)
        values = ", ".join("x + 5000" if name == "id" else f"k.{name}" for name in names)
        connection.execute(
            f"INSERT INTO {table} WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 200000) "
            f"SELECT {values} FROM n, (SELECT * FROM {table} LIMIT 1) k"
        )
    case.touch_all()
    return table

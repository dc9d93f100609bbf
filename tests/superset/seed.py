"""Superset's contents for the test: a table by SQL, the rest by its REST API.

Runs through the proxy under test, and finds again what an earlier run has made.
"""
from __future__ import annotations

import json
from dataclasses import dataclass

import sqlalchemy as sa

from client import Client

SALES = 20_000
TABLE = f"""
create table if not exists sales as
select g as id,
       date '2024-01-01' + (g % 730) as day,
       (array['north', 'south', 'east', 'west'])[1 + g % 4] as region,
       (array['bolt', 'nut', 'screw', 'washer', 'rivet', 'hook'])[1 + (g * 7) % 6] as product,
       1 + (g * 13) % 40 as quantity,
       round((((g * 37) % 9000) / 100.0)::numeric, 2) as amount
from generate_series(1, {SALES}) g
"""
COLUMNS = ["id", "day", "region", "product", "quantity", "amount"]
REVENUE = {
    "expressionType": "SIMPLE",
    "aggregate": "SUM",
    "column": {"column_name": "amount", "type": "NUMERIC"},
    "label": "revenue",
}
MONTH = {
    "timeGrain": "P1M",
    "columnType": "BASE_AXIS",
    "sqlExpression": "day",
    "label": "day",
    "expressionType": "SQL",
}


@dataclass
class Seed:
    """Ids in Superset."""

    database: int
    async_database: int
    dataset: int
    dashboard: int
    charts: list[int]


def _find(api: Client, kind: str, column: str, value: str) -> int | None:
    q = json.dumps({"filters": [{"col": column, "opr": "eq", "value": value}]})
    result = api.get(f"/api/v1/{kind}/", params={"q": q}, bearer=True).json()["result"]
    return result[0]["id"] if result else None


def _create(api: Client, kind: str, key: str, body: dict) -> int:
    known = _find(api, kind, key, body[key])
    return known or api.post(f"/api/v1/{kind}/", json=body, bearer=True, expect=(201,)).json()["id"]


def _chart(dataset: int, name: str, viz: str, query: dict, form: dict) -> dict:
    form = {"datasource": f"{dataset}__table", "viz_type": viz, "adhoc_filters": [], **form}
    context = {
        "datasource": {"id": dataset, "type": "table"},
        "force": False,
        "queries": [{"filters": [], "extras": {"having": "", "where": ""}, **query}],
        "form_data": form,
        "result_format": "json",
        "result_type": "full",
    }
    return {
        "slice_name": name,
        "viz_type": viz,
        "datasource_id": dataset,
        "datasource_type": "table",
        "params": json.dumps(form),
        "query_context": json.dumps(context),
    }


def _charts(dataset: int) -> list[dict]:
    return [
        _chart(dataset, "Revenue", "big_number_total",
               {"columns": [], "metrics": [REVENUE], "row_limit": 1},
               {"metric": REVENUE}),
        _chart(dataset, "Revenue by month", "echarts_timeseries_line",
               {"columns": [MONTH, "region"], "metrics": [REVENUE], "series_columns": ["region"],
                "orderby": [[REVENUE, False]], "row_limit": 10_000},
               {"x_axis": "day", "time_grain_sqla": "P1M", "metrics": [REVENUE], "groupby": ["region"],
                "row_limit": 10_000}),
        _chart(dataset, "Revenue by product", "pie",
               {"columns": ["product"], "metrics": [REVENUE], "row_limit": 100},
               {"groupby": ["product"], "metric": REVENUE, "row_limit": 100}),
        _chart(dataset, "Last sales", "table",
               {"columns": COLUMNS, "metrics": [], "orderby": [], "row_limit": 1000},
               {"query_mode": "raw", "row_limit": 1000, "all_columns": COLUMNS}),
    ]


def _layout(title: str, charts: dict[int, str]) -> dict:
    """A dashboard with two charts in a row."""
    position = {
        "DASHBOARD_VERSION_KEY": "v2",
        "ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]},
        "HEADER_ID": {"type": "HEADER", "id": "HEADER_ID", "meta": {"text": title}},
        "GRID_ID": {"type": "GRID", "id": "GRID_ID", "children": [], "parents": ["ROOT_ID"]},
    }
    for place, (chart, name) in enumerate(charts.items()):
        row, key = f"ROW-{place // 2}", f"CHART-{chart}"
        if row not in position:
            position["GRID_ID"]["children"].append(row)
            position[row] = {"type": "ROW", "id": row, "children": [], "parents": ["ROOT_ID", "GRID_ID"],
                             "meta": {"background": "BACKGROUND_TRANSPARENT"}}
        position[row]["children"].append(key)
        position[key] = {"type": "CHART", "id": key, "children": [], "parents": ["ROOT_ID", "GRID_ID", row],
                         "meta": {"chartId": chart, "width": 6, "height": 40, "sliceName": name}}
    return position


def seed(api: Client, examples_uri: str) -> Seed:
    """Needs a client that has logged in by the API and has its CSRF token."""
    with sa.create_engine(examples_uri).begin() as db:
        db.execute(sa.text(TABLE))

    database = _create(api, "database", "database_name", {
        "database_name": "test",
        "sqlalchemy_uri": examples_uri,
        "expose_in_sqllab": True,
        "allow_file_upload": True,
        "allow_run_async": False,
        "extra": json.dumps({"schemas_allowed_for_file_upload": ["public"]}),
    })
    # The same data; Celery runs its SQL Lab queries.
    async_database = _create(api, "database", "database_name", {
        "database_name": "test-async",
        "sqlalchemy_uri": examples_uri,
        "expose_in_sqllab": True,
        "allow_run_async": True,
    })
    # PostgreSQL's port changes between runs.
    for known in (database, async_database):
        api.request("PUT", f"/api/v1/database/{known}", json={"sqlalchemy_uri": examples_uri}, bearer=True)
    dataset = _find(api, "dataset", "table_name", "sales") or api.post(
        "/api/v1/dataset/",
        json={"database": database, "schema": "public", "table_name": "sales"},
        bearer=True, expect=(201,),
    ).json()["id"]

    dashboard = _create(api, "dashboard", "dashboard_title", {"dashboard_title": "Test dashboard", "published": True})
    charts = {}
    for body in _charts(dataset):
        charts[_create(api, "chart", "slice_name", body | {"dashboards": [dashboard]})] = body["slice_name"]
    api.request("PUT", f"/api/v1/dashboard/{dashboard}", bearer=True, json={
        "position_json": json.dumps(_layout("Test dashboard", charts)),
        "json_metadata": json.dumps({"color_scheme": "supersetColors"}),
    })
    return Seed(database, async_database, dataset, dashboard, list(charts))

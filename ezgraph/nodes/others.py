"""Array nodes in the hands of dask and xarray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ezgraph.extras import extra

if TYPE_CHECKING:
    from ezgraph.nodes.array import ArrayNode
    from ezgraph.nodes.grid import Grid


def dask_array(node: ArrayNode, grid: Grid, incarnation: str) -> Any:  # noqa: ANN401
    """Return a dask array of a node's chunks.

    Raises:
        MissingExtraError: dask is not installed.
    """
    dask = extra("dask.array", "dask", "node.dask()")
    chunks = tuple(
        tuple(stop - start for start, stop in map(axis.span, range(axis.count))) or (0,)
        for axis in grid.axes
    )
    name = f"ezgraph-{node.uid}-{incarnation}-{'x'.join(map(str, grid.shape))}"
    return dask.from_array(node, chunks=chunks, name=name, asarray=False, fancy=False)


def data_array(node: ArrayNode) -> Any:  # noqa: ANN401
    """Return an xarray array of a node, read when needed.

    Raises:
        MissingExtraError: xarray or dask is not installed.
    """
    xarray = extra("xarray", "xarray", "node.xarray()")
    meta = node.meta if isinstance(node.meta, dict) else {"meta": node.meta}
    named = meta.get("dims")
    attributes = {str(name): value for name, value in meta.items()}
    dims = None
    if isinstance(named, list | tuple) and len(named) == node.ndim:
        dims = [str(each) for each in attributes.pop("dims")]
    return xarray.DataArray(node.dask(), dims=dims, attrs=attributes)

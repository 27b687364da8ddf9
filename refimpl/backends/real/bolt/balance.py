"""What a commit does to the tree of one bucket: merge what has become too small, split what is too big, write the rest.

Every changed page goes to a new place, and so does every page above it, up to the root.
"""

from __future__ import annotations

from refimpl.backends.real.bolt.nodes import Node
from refimpl.backends.real.bolt.tree import Tree


def rebalance(tree: Tree) -> None:
    """Merge nodes that lost keys with their neighbours, and take needless levels away."""
    top = tree.nodes.get(tree.root)
    if top is None:
        return
    _merge_below(tree, top)
    while not top.is_leaf and len(top) <= 1:
        if not len(top):
            # All keys are gone: an empty leaf is what an empty bucket has.
            top.is_leaf = True
            return
        child = tree.node(tree.below(top, 0))
        tree.drop(top)
        tree.root = child.pgid
        top = child


def _merge_below(tree: Tree, branch: Node) -> None:
    """Merge the children of a branch, lower levels first."""
    if branch.is_leaf:
        return
    for pgid in branch.children:
        child = tree.nodes.get(pgid)
        if child is not None:
            _merge_below(tree, child)
    index = 0
    while index < len(branch):
        child = tree.nodes.get(branch.children[index])
        if child is None or not child.shrunk or not child.is_underfull(tree.pages.page_size):
            index += 1
        elif not len(child):
            tree.drop(child)
            branch.remove(index)
        elif len(branch) == 1:
            # No neighbour: the branch itself is too small, and the level above it will see to that.
            index += 1
        else:
            index = max(index - 1, 0)
            left, right = (tree.node(tree.below(branch, at)) for at in (index, index + 1))
            left.absorb(right)
            tree.drop(right)
            branch.remove(index + 1)


def spill(tree: Tree) -> None:
    """Write all nodes to new pages; ``tree.root`` is the new root afterwards."""
    top = tree.nodes.get(tree.root)
    if top is None:
        return
    parts = _spill(tree, top)
    while len(parts) > 1:
        above = Node(is_leaf=False)
        above.keys = [key for key, _ in parts]
        above.children = [pgid for _, pgid in parts]
        parts = _write(tree, above)
    tree.root = parts[0][1]
    tree.nodes.clear()


def _spill(tree: Tree, node: Node) -> list[tuple[bytes, int]]:
    """Write a node and the nodes below it; gives the first keys and pages of what has become of it."""
    if not node.is_leaf:
        parts: list[tuple[bytes, int]] = []
        for key, pgid in zip(node.keys, node.children, strict=True):
            child = tree.nodes.get(pgid)
            parts += [(key, pgid)] if child is None else _spill(tree, child)
        node.keys = [key for key, _ in parts]
        node.children = [pgid for _, pgid in parts]
    return _write(tree, node)


def _write(tree: Tree, node: Node) -> list[tuple[bytes, int]]:
    if node.pgid:
        tree.pages.free(node.page_range())
    # Only a root can be without keys, and nobody asks for the first key of one.
    return [(part.keys[0] if part.keys else b"", tree.pages.write(part)) for part in node.split(tree.pages.page_size)]

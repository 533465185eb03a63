"""YAML files that users write, read as nodes, so that every complaint names its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from seqassay.errors import InputError


class YamlLines:
    """Nodes of one file, with the lines that they stand at.

    Args:
        hint: what a file of this kind looks like.
    """

    def __init__(self, path: Path, hint: str) -> None:
        self.path, self.hint = path, hint

    def compose(self, what: str) -> tuple[bytes, yaml.Node | None]:
        """The file's content, and its root node; None where it is empty.

        Args:
            what: the file, in an error: "the gates file".

        Raises:
            InputError: it cannot be read, or is not YAML; names the line where there is one.
        """
        try:
            content = self.path.read_bytes()
            return content, yaml.compose(content.decode("utf-8"), Loader=yaml.SafeLoader)
        except OSError as error:
            raise InputError(f"cannot read {what}: {error.strerror}", path=self.path) from error
        except UnicodeDecodeError as error:
            raise InputError(f"not UTF-8: {error}", path=self.path) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else None
            raise InputError(f"not YAML: {error.problem}", path=self.path, line=line) from error
        except RecursionError as error:
            raise InputError("is nested too deeply", path=self.path, hint=self.hint) from error
        except yaml.YAMLError as error:
            raise InputError(f"not YAML: {' '.join(str(error).split())}", path=self.path) from error

    def error(self, message: str, node: yaml.Node | int, hint: str = "") -> InputError:
        """A complaint about a node, or a line."""
        line = node if isinstance(node, int) else node.start_mark.line + 1
        return InputError(message, path=self.path, line=line, hint=hint)

    def unknown(self, key: str, known: Iterable[str], what: str, node: yaml.Node) -> InputError:
        """A complaint about a key, with the nearest that is known."""
        names = list(known)
        near = difflib.get_close_matches(key, names, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        return self.error(f"{what}: {key!r} is not known", node, f"{guess}known: {', '.join(names)}")

    def items(self, node: yaml.Node, what: str) -> Iterator[tuple[str, yaml.Node]]:
        """Names and what stands under them, each name once."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(f"{what}: not a list of 'name: …' lines", node, self.hint)
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value.strip():
                raise self.error(f"{what}: a name is missing", key)
            if key.value in seen:
                raise self.error(f"{what}: {key.value!r} stands there twice", key)
            seen.add(key.value)
            yield key.value, value

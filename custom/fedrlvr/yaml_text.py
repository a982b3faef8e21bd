"""Reading YAML that a person or another party wrote: whatever is wrong with it is one short line."""

import yaml

from fedrlvr.json_text import not_utf8, shown

MAX_BYTES = 100_000  # the largest preset has some 4,000
_MAX_DEPTH = 20
_MAX_INTEGER = 2**63


class YamlError(ValueError):
    """Text that is not the plain YAML that settings need."""


def from_yaml(text: str | bytes) -> object:
    """The value of `text`. Raises YamlError, which names line and column, also for aliases (a short file could stand
    for gigabytes), tags, a key that stands twice, deep nesting, and a text or an integer that is too long."""
    if len(text) > MAX_BYTES:
        raise YamlError(f"not the YAML of settings: longer than {MAX_BYTES:,} bytes")
    try:
        return yaml.load(text if isinstance(text, str) else text.decode(), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise YamlError(f"not valid YAML: {not_utf8(error)}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise YamlError(f"not valid YAML: {error.problem or error.context}{at}") from None
    except yaml.reader.ReaderError as error:
        raise YamlError(f"not valid YAML: the character {chr(error.character)!a} at {error.position + 1}") from None
    except (yaml.YAMLError, ValueError) as error:  # of int(), float() and the dates
        raise YamlError(f"not valid YAML: {str(error)[:200]}") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's loader of plain data, within bounds that it checks while it reads."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refused("an alias (*name); write out what it stands for", event)
        if event.tag is not None:
            raise _refused("a tag (!name); settings need none", event)
        if self._depth == _MAX_DEPTH:
            raise _refused(f"nested more than {_MAX_DEPTH} deep", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        mapping = super().construct_mapping(node, deep)
        keys: set = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node)
            if key in keys:
                raise _refused(f"the key {shown(str(key))} stands twice", key_node)
            keys.add(key)
        return mapping

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        try:
            number = self.construct_yaml_int(node)
        except ValueError:
            number = _MAX_INTEGER
        if abs(number) >= _MAX_INTEGER:
            raise _refused("an integer that cannot be read, or has over 64 bits", node)
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


def _refused(problem: str, place: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=place.start_mark)

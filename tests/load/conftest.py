"""The long form of the load is asked for by its mark: `pytest -m long`."""


def pytest_configure(config):
    config.addinivalue_line("markers", "long: minutes of load; left out unless asked for with `-m long`")


def pytest_collection_modifyitems(config, items):
    if "long" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]

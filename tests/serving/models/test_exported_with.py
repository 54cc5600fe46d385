from vireo_serving.models.exported_with import mismatch


def test_the_version_that_exported_a_model_is_compared_with_the_installed_one():
    assert mismatch("0.2.0", "0.2.0") is None
    other = mismatch("0.2.0", "0.3.1")
    assert other is not None
    for part in ("exported by vireo 0.2.0", "vireo 0.3.1 is installed", "install vireo 0.2.0"):
        assert part in other
    none = mismatch(None, "0.3.1")
    assert none is not None
    for part in ("older than 0.2.0", "vireo 0.3.1 is installed", "export the bundle again"):
        assert part in none

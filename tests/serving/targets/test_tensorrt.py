import pytest
from vireo_client.errors import ExportError
from vireo_serving.plans.profiles import Profile
from vireo_serving.targets.tensorrt import cuda_graph_policy, graph_batches, profile_names

BUCKETS = [Profile("input_ids", (1, n), (4, n), (12, n)) for n in (16, 32)]
IMAGE = Profile("pixels", (1, 3, 8, 8), (4, 3, 8, 8), (12, 3, 8, 8))


def _graphs(policy, name):
    """Batch sizes from and to, and the shape, of every graph."""
    graphs = []
    for graph in policy.cuda.graph_spec:
        low = graph.graph_lower_bound
        # The backend refuses a lower bound that leaves an input out or has another rank.
        assert list(low.input[name].dim) == list(graph.input[name].dim)
        graphs.append((low.batch_size, graph.batch_size, tuple(graph.input[name].dim)))
    return graphs


def test_profiles_are_named_by_their_place():
    assert profile_names(BUCKETS) == ["0", "1"]


@pytest.mark.parametrize(
    ("largest", "batches"), [(1, (1,)), (12, (1, 2, 4, 8, 12)), (16, (1, 2, 4, 8, 16))]
)
def test_graphs_are_captured_at_powers_of_two_and_the_largest(largest, batches):
    assert graph_batches(largest) == batches


def test_each_bucket_has_a_graph_for_every_batch():
    policy = cuda_graph_policy(BUCKETS)
    assert policy.cuda.graphs
    spans = [(1, 1), (2, 2), (3, 4), (5, 8), (9, 12)]
    assert _graphs(policy, "input_ids") == [(*s, (n,)) for n in (16, 32) for s in spans]
    covered = [b for low, high in spans for b in range(low, high + 1)]
    assert covered == list(range(1, 13))  # every batch has its graph, and one only


def test_images_keep_their_shape_and_batches_can_be_chosen():
    graphs = _graphs(cuda_graph_policy([IMAGE], [2, 12]), "pixels")
    assert graphs == [(1, 2, (3, 8, 8)), (3, 12, (3, 8, 8))]


@pytest.mark.parametrize("batches", [[], [0, 2], [4, 2], [2, 2], [1, 13]])
def test_batches_outside_the_profiles_are_refused(batches):
    with pytest.raises(ExportError, match="CUDA graphs"):
        cuda_graph_policy(BUCKETS, batches)

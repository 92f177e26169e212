import logging
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from running import ONE_THREAD, TINY, invoke, read_json, score, stopped, train

from salad import cli, ivf
from salad.errors import InputError
from salad.ivf import InvertedFile, choose_search, describe_search, num_common
from salad.scoring import knn_angle, weighted_prototype
from salad.search import nearest


def crowds(num, *, seed, spread=0.15):
    """Unit vectors around 20 directions, as embeddings of like images lie."""
    centres = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(seed)
    chosen = torch.randint(20, (num,), generator=draw)
    return F.normalize(centres[chosen] + spread * torch.randn(num, 16, generator=draw), dim=1)


@pytest.fixture
def index():
    pytest.importorskip("faiss")
    return InvertedFile(crowds(4000, seed=1), k=10, num_queries=500, seed=0)


def test_finds_nearly_all_that_exact_search_finds_in_a_part_of_the_lists(index):
    rows, queries = crowds(4000, seed=1), crowds(500, seed=2)
    values, found = index(queries, rows, k=10)
    exact, true = nearest(queries, rows, k=10)
    assert 0.9 < num_common(found, true) / true.numel() < 1  # approximate, else the test would show nothing
    assert index.num_looked_through < index.num_lists == 253
    torch.testing.assert_close(torch.einsum("bd,bkd->bk", queries, rows[found]), values)
    assert (values.sort().values <= exact.sort().values + 1e-6).all()


def test_recall_is_measured_on_queries_from_first_to_last(index):
    rows, queries = crowds(4000, seed=1), crowds(500, seed=2)
    found = [index(part, rows, k=10)[1] for part in torch.split(queries, 7)]
    expected = num_common(torch.cat(found), nearest(queries, rows, k=10)[1]) / 5000
    assert index.num_compared == 500
    assert index.recall == pytest.approx(expected, abs=1e-9)


def test_recall_is_measured_on_a_sample_of_many_queries(monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(ivf, "NUM_SAMPLED", 50)
    rows, queries = crowds(2000, seed=1), crowds(501, seed=2)
    index = InvertedFile(rows, k=10, num_queries=501, seed=0)
    found = [index(part, rows, k=10)[1] for part in torch.split(queries, 7)]
    expected = num_common(torch.cat(found)[::10], nearest(queries[::10], rows, k=10)[1]) / 510
    assert (index.num_compared, index.recall) == (51, pytest.approx(expected, abs=1e-9))


def test_a_seed_gives_the_same_index(index):
    rows, queries = crowds(4000, seed=1), crowds(500, seed=2)
    again = InvertedFile(rows, k=10, num_queries=500, seed=0)
    for one, two in zip(index(queries, rows, k=10), again(queries, rows, k=10), strict=True):
        assert torch.equal(one, two)


def test_where_the_lists_hold_too_few_rows_the_search_is_exact(index):
    rows, queries = crowds(4000, seed=1), crowds(20, seed=2)
    values, found = index(queries, rows, k=3000)
    assert (found >= 0).all()
    torch.testing.assert_close(values.sort().values, nearest(queries, rows, k=3000)[0].sort().values)


def test_both_scores_take_it(index):
    rows, queries = crowds(4000, seed=1), crowds(50, seed=2)
    torch.testing.assert_close(
        knn_angle(queries, rows, k=10, search=index), knn_angle(queries, rows, k=10), rtol=0.05, atol=0
    )
    torch.testing.assert_close(
        weighted_prototype(queries, rows, k=10, temperature=0.1, search=index),
        weighted_prototype(queries, rows, k=10, temperature=0.1),
        rtol=0.1,
        atol=1e-3,
    )


def test_fewer_rows_are_searched_exactly_and_that_is_said(caplog):
    pytest.importorskip("faiss")
    with caplog.at_level(logging.INFO, logger="salad"):
        found = choose_search("faiss", crowds(100, seed=0), k=5, num_queries=9, seed=0)
    assert found is nearest
    assert "100 rows are searched exactly; an index pays from 1000000 on" in caplog.text
    assert describe_search(found) == {"knn": "exact"}


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert choose_search("exact", crowds(9, seed=0), k=5, num_queries=9, seed=0) is nearest
    with pytest.raises(InputError, match=r'pip install "salad\[faiss\]"'):
        choose_search("faiss", crowds(9, seed=0), k=5, num_queries=9, seed=0)


# test.py --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(data, tmp_path):
    train(tmp_path / "run", data)
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["knn", "weighted"])
def test_recall_is_logged_and_written(run, data, tmp_path, monkeypatch, name):
    pytest.importorskip("faiss")
    options = ["--load_model", run / "model.tar", "--score", name, "--k", 3]
    exact = score(tmp_path / "exact", data, *options)
    assert read_json(tmp_path / "exact/metrics.json")["knn"] == "exact"
    monkeypatch.setattr(ivf, "MIN_ROWS", 8)
    assert score(tmp_path / "faiss", data, *options, "--knn", "faiss") == pytest.approx(exact, rel=0.05)
    metrics = read_json(tmp_path / "faiss/metrics.json")
    assert (metrics["knn"], metrics["knn_recall_queries"], metrics["knn_lists"]) == ("faiss", 6, 8)
    assert 0.5 < metrics["knn_recall"] <= 1
    assert f"recall {metrics['knn_recall']:.4f}, measured with 6" in (tmp_path / "faiss/log.txt").read_text("utf-8")


def test_scores_without_rows_say_nothing_of_a_search(run, data, tmp_path):
    score(tmp_path, data, "--load_model", run / "model.tar", "--score", "reconstruction")
    assert "knn" not in read_json(tmp_path / "metrics.json")


def test_test_py_without_faiss_ends_in_one_line(run, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    result = invoke(
        cli.test, "CXR_author", "unet", tmp_path, data, *TINY, "--load_model", run / "model.tar", "--knn", "faiss"
    )
    assert stopped(result) == 'Error: --knn faiss needs the package faiss: pip install "salad[faiss]"'


TOGETHER = """
import {first}, {second}
import torch, faiss

torch.set_num_threads(2)
faiss.omp_set_num_threads(2)
rows = torch.randn(4000, 32)
index = faiss.IndexFlatIP(32)
index.add(rows.numpy())
for _ in range(20):
    found = torch.from_numpy(index.search(rows[:200].numpy(), 5)[1])
    assert torch.equal(found, (rows[:200] @ rows.T).topk(5).indices)
print("done")
"""


@pytest.mark.parametrize(("first", "second"), [("torch", "faiss"), ("faiss", "torch")])
def test_faiss_and_torch_compute_in_one_process_with_threads(first, second):
    pytest.importorskip("faiss")
    code = TOGETHER.format(first=first, second=second)
    threads = {**ONE_THREAD, "OMP_NUM_THREADS": "2"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=threads)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr

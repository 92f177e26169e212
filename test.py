"""Score: python test.py DATASET_NAME NET_NAME XP_PATH DATA_PATH [OPTIONS]."""

from salad.__main__ import run

if __name__ == "__main__":
    run("test", program="test.py")

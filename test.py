"""Score: python test.py DATASET_NAME NET_NAME XP_PATH DATA_PATH [OPTIONS]."""

from salad.cli import test

if __name__ == "__main__":
    test(prog_name="test.py")

"""What the tests of clusters share: the modules beside them that are no tests, importable by their names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

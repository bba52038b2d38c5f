"""python -m producer.cli"""

from producer.cli.main import main

main()

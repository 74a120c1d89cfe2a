"""``python -m vision_ift`` is ``vision-ift``."""

from vision_ift._cli.main import main

if __name__ == "__main__":
    main()

from tests.tiny_transformer import tiny_transformer

__all__ = ["tiny_transformer"]

import {
  DataTypes,
  Model,
  Op,
  Sequelize,
  type InferAttributes,
  type InferCreationAttributes,
  type CreationOptional,
} from 'sequelize';
import { DEFAULTS, type Contender, type Environment } from './contender.js';

class Item extends Model<InferAttributes<Item>, InferCreationAttributes<Item>> {
  declare id: CreationOptional<number>;
  declare name: string;
  declare weight: number | null;
  declare note: string | null;
  declare active: CreationOptional<boolean>;
  declare createdAt: CreationOptional<Date>;
}

/** `findOrCreate`, which opens a transaction and catches the unique violation inside it. */
export async function open({ databaseUrl, pool: max }: Environment): Promise<Contender> {
  const database = new Sequelize(databaseUrl, { dialect: 'postgres', logging: false, pool: { max } });
  Item.init(
    {
      id: { type: DataTypes.INTEGER, primaryKey: true, autoIncrement: true },
      name: { type: DataTypes.STRING, allowNull: false, unique: true },
      weight: DataTypes.INTEGER,
      note: DataTypes.TEXT,
      active: { type: DataTypes.BOOLEAN, allowNull: false, defaultValue: true },
      createdAt: { type: DataTypes.DATE, allowNull: false, field: 'created_at', defaultValue: DataTypes.NOW },
    },
    { sequelize: database, tableName: 'item', timestamps: false },
  );
  await database.authenticate();
  return {
    getOrCreate: (name) => Item.findOrCreate({ where: { name }, defaults: { name, ...DEFAULTS } }),
    getOrCreateMany: async (names) => {
      const items = await Item.findAll({ where: { name: { [Op.in]: names } } });
      const known = new Set(items.map(({ name }) => name));
      const missing = names.filter((name) => !known.has(name)).map((name) => ({ name, ...DEFAULTS }));
      const created = await Item.bulkCreate(missing, { ignoreDuplicates: true, returning: true });
      return [...items, ...created];
    },
    close: () => database.close(),
  };
}
